"""Which checkpoints lie in an output directory, and which of them are whole.

One file per trainer says what its checkpoints are called, what is in them and when one is complete:
`base` is that seam, `claims` knows which there are. What files hold (`contents`, `header`, `files`)
and for how long nothing may change (`settling`) is common to all.
"""

from clipwatch.layouts.scanner import Scanner, look_once

__all__ = ["Scanner", "look_once"]
