"""Checkpoints that lie at an address, copied one by one to a folder of ours while they are due."""

from __future__ import annotations

from clipwatch.mirror.choosing import to_copy
from clipwatch.mirror.copying import Mirror
from clipwatch.mirror.entries import found
from clipwatch.mirror.remote import Remote, Unreachable

__all__ = ["Mirror", "Remote", "Unreachable", "found", "to_copy"]
