"""For the tests of packages that add to clipwatch: what each must do, and twins in memory.

`TrackerContract`, `TrackerInterleavings`, `LayoutContract`, `ScorerContract` and `ExecutorContract`
are tests to inherit from; `memory` and `scripted` do in memory what a tracker and an evaluator do,
`series` and `made_up` make results up.
"""
