"""Weight files as they lie on disk: which belong together, and whether they are whole."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipwatch.events import WeightFile

HEADER_LIMIT = 100_000_000
"""Bytes; safetensors' own limit (MAX_HEADER_SIZE in its Rust source)."""

SAMPLES, SAMPLE_BYTES = 64, 65_536


class NotWhole(Exception):  # noqa: N818 - says what is so
    """A file is missing, short or not finished; the text says which and why."""


class NotReadable(Exception):  # noqa: N818 - says what is so
    """The file system refuses us; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself: tensor names and the free metadata."""

    tensors: frozenset[str]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read a safetensors header and check it against the file's size.

    Raises:
        NotWhole: The file is shorter or longer than its header says, or has no valid header.
        NotReadable: It may not be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, HEADER_LIMIT):  # noqa: PLR2004 - the format's length field
                raise NotWhole(f"{path.name} is not whole: {size} bytes do not hold its header")
            header: dict[str, Any] = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    except PermissionError as error:
        raise NotReadable(refusal(path)) from error
    except FileNotFoundError as error:
        raise NotWhole(f"{path.name} is gone") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise NotWhole(f"{path.name} has no valid safetensors header yet") from error
    if not isinstance(end, int) or 8 + length + end != size:
        raise NotWhole(f"{path.name} is not whole: {size} bytes of {8 + length + int(end)}")
    return Header(frozenset(header), metadata if isinstance(metadata, dict) else {})


def shards(folder: Path, stem: str) -> list[Path] | None:
    """Return the safetensors files of `stem` in a folder, or None where there are none at all.

    `stem` is e.g. "diffusion_pytorch_model"; a variant ("diffusion_pytorch_model.fp16") counts too.

    Raises:
        NotWhole: Shards without their index, or an index whose shards are not all there.
        NotReadable: The folder or the index may not be read.
    """
    try:
        found = sorted(entry for entry in os.listdir(folder) if entry.startswith(stem))
    except PermissionError as error:
        raise NotReadable(refusal(folder)) from error
    except (FileNotFoundError, NotADirectoryError):
        return None
    weights = [name for name in found if name.endswith(".safetensors")]
    indexes = [name for name in found if name.endswith(".safetensors.index.json")]
    single = [name for name in weights if "-of-" not in name]
    if single and not indexes:
        return [folder / single[0]]
    if not indexes:
        if weights:
            raise NotWhole(f"{folder.name}/ has shards but no index yet")
        return None
    names = _indexed(folder / indexes[0])
    missing = [name for name in names if name not in found]
    if missing:
        raise NotWhole(f"{folder.name}/{missing[0]} is not there yet ({len(missing)} shards lack)")
    return [folder / name for name in names]


def _indexed(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except PermissionError as error:
        raise NotReadable(refusal(index)) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotWhole(f"{index.name} is not whole") from error
    for name in names:
        if not isinstance(name, str) or name != Path(name).name:
            raise NotWhole(f"{index.name} names {name!r}, which is not a file beside it")
    return names


def stat(root: Path, paths: list[Path]) -> tuple[WeightFile, ...]:
    """Return the files' identities, relative to `root`.

    Raises:
        NotWhole: One is gone.
        NotReadable: One may not be read.
    """
    files = []
    for path in paths:
        try:
            found = path.stat()
        except FileNotFoundError as error:
            raise NotWhole(f"{path.name} is gone") from error
        except PermissionError as error:
            raise NotReadable(refusal(path)) from error
        if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            raise NotReadable(refusal(path))
        name = path.relative_to(root).as_posix()
        files.append(WeightFile(name, found.st_size, found.st_mtime_ns, found.st_ino))
    return tuple(files)


def content_digest(root: Path, files: tuple[WeightFile, ...]) -> str:
    """Identify weights by content: sixteen hex digits.

    Files up to 4 MiB are read whole, larger ones at 64 evenly spaced places (the first of which
    holds the header) so that a checkpoint of many GB costs milliseconds; training steps change
    practically every tensor, so a sample tells two checkpoints apart.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.size}\0".encode())
        with (root / file.path).open("rb") as handle:
            if file.size <= SAMPLES * SAMPLE_BYTES:
                digest.update(handle.read())
                continue
            for n in range(SAMPLES):
                handle.seek((file.size - SAMPLE_BYTES) * n // (SAMPLES - 1))
                digest.update(handle.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def refusal(path: Path) -> str:
    """Say in one line why a path cannot be read and what to do."""
    try:
        found = path.stat()
        try:
            owner = pwd.getpwuid(found.st_uid).pw_name
        except KeyError:
            owner = f"uid {found.st_uid}"
        whose = f"mode {found.st_mode & 0o777:04o}, owner {owner}"
    except OSError:
        owner, whose = "the user who trains", "its folder may not be entered"
    return f"{path} cannot be read ({whose}): run clipwatch as {owner}"
