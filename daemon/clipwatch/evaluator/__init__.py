"""The evaluator: a process of its own, the only room that imports torch."""
