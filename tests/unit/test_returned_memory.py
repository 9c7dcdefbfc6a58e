"""What malloc is told: it keeps no block of some kilobytes that is freed."""

from __future__ import annotations

import subprocess
import sys

import pytest

MAPPED = """
import ctypes, sys
from clipwatch.kit.processes import MAPPED_BYTES, return_memory

class Told(ctypes.Structure):
    _fields_ = [(it, ctypes.c_size_t) for it in "arena b c mapped e f g h i j".split()]

libc = ctypes.CDLL(None)
if not hasattr(libc, "mallinfo2"):
    sys.exit("no glibc")
libc.mallinfo2.restype = Told
if sys.argv[1] == "told":
    return_memory()
before = libc.mallinfo2().mapped
blocks = [bytes(4 * MAPPED_BYTES) for _ in range(100)]  # the heap has room for the first few
during = libc.mallinfo2().mapped
del blocks
print((during - before) // 90, libc.mallinfo2().mapped - before)
"""


@pytest.mark.parametrize(("word", "mapped"), [("told", 1), ("", 0)])
def test_what_is_freed_goes_back_to_the_system(word: str, mapped: int) -> None:
    """Nearly all blocks of 64 KiB have pages of their own, of which malloc by itself gives none."""
    child = subprocess.run(
        [sys.executable, "-c", MAPPED, word], capture_output=True, text=True, check=False
    )
    if child.stderr.strip() == "no glibc":
        pytest.skip("mallopt is of glibc 2.33 and later")
    assert child.stdout.split() == [str(mapped), "0"], child.stderr
