"""Which checkpoints lie in an output directory, and which of them are whole.

One file per trainer says what its checkpoints are called and when one is complete; what lies inside
(`contents`, `header`, `files`) and how long nothing may change (`settling`) is common to all.
"""

from clipwatch.layouts.folders import step_of
from clipwatch.layouts.scanner import Scanner, look_once

__all__ = ["Scanner", "look_once", "step_of"]
