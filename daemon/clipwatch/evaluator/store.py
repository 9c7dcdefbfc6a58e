"""What was encoded once, kept on disk: read back only when all that made it is the same."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from contextlib import suppress
from errno import ENOSPC
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load, save

from clipwatch.kit.filesystems import make_private
from clipwatch.kit.ownfiles import read_own

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

DISK_BYTES: Final = 4 << 30
"""The most that is kept: near a thousand prompts of the largest families, at 4 to 5 MB each."""

SPARE_BYTES: Final = 1 << 30
"""What is left free on the disk, as the results are written there, too."""

_PACKAGES: Final = ("torch", "diffusers", "transformers", "tokenizers")
_CLEANERS: Final = ("bs4", "ftfy")  # some pipelines clean prompts if these are installed

Part = torch.Tensor | list[torch.Tensor] | None


class Store:
    """A folder of encoded texts, one file each, which several processes may share.

    Nothing is raised: what cannot be read is not there, and what cannot be written is left out.

    Args:
        folder: Made when it is first written to; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._opened = time.time() - 1  # file systems' clocks may be a little behind
        self._used: int | None = None  # bytes in the folder, as far as this process knows
        self._complained = False

    def keep_in(self, folder: Path | None) -> None:
        """Go over to another folder."""
        if folder != self.folder:
            self.folder, self._used, self._complained = folder, None, False

    def has(self, key: str) -> bool:
        """Whether there is a file for `key`, which `read` may still find broken."""
        return self.folder is not None and self._path(self.folder, key).is_file()

    def read(self, key: str) -> list[Part] | None:
        """Return what was written for `key`; None if nothing was, or not in whole."""
        if self.folder is None:
            return None
        path = self._path(self.folder, key)
        with suppress(OSError):
            parts = unpack(read_own(path), key)
            if parts is not None:
                os.utime(path, follow_symlinks=False)  # the files used least recently go first
            return parts
        return None

    def write(self, key: str, parts: Sequence[Part]) -> bool:
        """Keep `parts` for `key`; whether they are kept now."""
        if self.folder is None:
            return False
        data = pack(key, parts)
        written = ""
        try:
            make_private(self.folder)
            if not self._make_room(self.folder, len(data)):
                return False
            with tempfile.NamedTemporaryFile(
                dir=self.folder, suffix=".tmp", delete=False
            ) as file:  # of mode 0600
                written = file.name
                file.write(data)
            Path(written).replace(self._path(self.folder, key))
        except OSError as error:
            if written:
                Path(written).unlink(missing_ok=True)
            if not self._complained:
                _log.warning("encoded prompts cannot be kept in %s: %s", self.folder, error)
                self._complained = True
            return False
        self._used = (self._used or 0) + len(data)
        return True

    def _make_room(self, folder: Path, size: int) -> bool:
        """Delete the oldest files as needed, those used since the start apart.

        Raises:
            OSError: The disk has nothing to spare, or cannot be read.
        """
        if shutil.disk_usage(folder).free - size < SPARE_BYTES:
            raise OSError(ENOSPC, "the disk is nearly full")
        if self._used is None or self._used + size > DISK_BYTES:
            stats = []
            for path in folder.iterdir():
                with suppress(FileNotFoundError):  # another process has just named or deleted it
                    stats.append((path, path.lstat()))
            self._used = sum(stat.st_size for _, stat in stats)
            for path, stat in sorted(stats, key=lambda it: it[1].st_mtime):
                if self._used + size <= DISK_BYTES or stat.st_mtime >= self._opened:
                    break
                path.unlink(missing_ok=True)
                self._used -= stat.st_size
        return self._used + size <= DISK_BYTES

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"


def made_by(device: str) -> dict[str, Any]:
    """Return what decides over the bits of any result: versions, and the kind of the device."""
    kind = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    found: dict[str, Any] = {package: version(package) for package in _PACKAGES}
    return found | {name: find_spec(name) is not None for name in _CLEANERS} | {"device": kind}


def tensors_of(part: Part) -> list[torch.Tensor]:
    """Return the tensors of one thing that an encoder returned."""
    return [] if part is None else [part] if isinstance(part, torch.Tensor) else part


# --- one file ------------------------------------------------------------------------------------


def pack(key: str, parts: Sequence[Part]) -> bytes:
    """Return a safetensors file that holds the parts, their key and a checksum."""
    # -1 stands for nothing, -2 for a tensor, a number for a list of so many
    layout = [
        -1 if part is None else -2 if isinstance(part, torch.Tensor) else len(part)
        for part in parts
    ]
    flat = [tensor for part in parts for tensor in tensors_of(part)]
    # cloned, as safetensors refuses tensors that share memory
    tensors = {str(number): it.contiguous().clone() for number, it in enumerate(flat)}
    return save(
        tensors,
        metadata={
            "key": key,
            "layout": json.dumps(layout),
            "checksum": _checksum(layout, list(tensors.values())),
        },
    )


def unpack(data: bytes, key: str) -> list[Part] | None:
    """Return the parts of a file; None unless it is whole and was packed for `key`."""
    try:
        length = int.from_bytes(data[:8], "little")
        about = json.loads(data[8 : 8 + length])["__metadata__"]
        if about["key"] != key:
            return None
        layout = json.loads(about["layout"])
        found = load(data)
        flat = [found[str(number)] for number in range(len(found))]
        if about["checksum"] != _checksum(layout, flat):
            return None
        rest = iter(flat)
        return [
            None if it == -1 else next(rest) if it < 0 else [next(rest) for _ in range(it)]
            for it in layout
        ]
    except Exception:  # noqa: BLE001 - whatever is wrong with a file, it is not one of ours
        return None


def _checksum(layout: Sequence[int], tensors: Sequence[torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(layout).encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
