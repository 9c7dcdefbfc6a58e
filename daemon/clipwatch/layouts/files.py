"""Weight files as they lie on disk: which belong together, and what identifies them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pwd
import re
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from clipwatch.domain.events import WeightFile
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.filesystems import inode_of

INDEX_LIMIT = 16_000_000
"""Bytes of an index; a model of 10,000 tensors has one of 1 MB."""

SAMPLES, SAMPLE_BYTES = 64, 65_536


class NotWhole(Exception):  # noqa: N818 - says what is so
    """A file is missing, short or not finished; the text says which and why.

    `settlings`: as of an Inspection; 0.0 where a mark says that all is there.
    """

    settlings = 1.0


class Damaged(NotWhole):
    """What stands there is nonsense that nothing added to it can mend; it may be written anew."""


class NotReadable(ClipwatchError):  # noqa: N818 - says what is so
    """The file system refuses us; says whom it would let."""


class Unsupported(Exception):  # noqa: N818 - says what is so
    """What stands there cannot be evaluated, whatever may come; the text names it.

    `settlings`: as of an Inspection, for what may come instead.
    """

    settlings = 1.0


@contextmanager
def settling_for(settlings: float) -> Iterator[None]:
    """Say of what is raised meanwhile how many settling times it has to stay so to be believed."""
    try:
        yield
    except (NotWhole, Unsupported) as reason:
        reason.settlings = settlings
        raise


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; anything else, a FIFO say, is never opened.

    Raises:
        NotWhole: There is no such file.
        Damaged: It is no regular file.
        NotReadable: It may not be read.
    """
    with _refusals(path):
        _regular(path)
        # a FIFO put there meanwhile must not stop us
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    with file:
        yield file


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotWhole(f"{path.name} {_lost(path)}") from error
    except PermissionError as error:
        raise refusal(path) from error


def _lost(path: Path) -> str:
    return "is a link to nothing" if path.is_symlink() else "is gone"


def _regular(path: Path) -> os.stat_result:
    found = path.stat()
    if not modes.S_ISREG(found.st_mode):
        raise Damaged(f"{path.name} is not a file")
    return found


def read_json(path: Path) -> Any:
    """Return what an index file holds.

    Raises:
        NotWhole, NotReadable: As `opened`; also when it is not JSON (yet).
        Damaged: It is larger than any index.
    """
    with opened(path) as file:
        text = file.read(INDEX_LIMIT + 1)
    if len(text) > INDEX_LIMIT:
        raise Damaged(f"{path.name} is larger than {INDEX_LIMIT} bytes, no index is")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotWhole(f"{path.name} is not whole") from error


def beside(index: Path, name: object, suffix: str = "") -> str:
    """Return a name from an index, having made sure that it leads to nothing but a neighbour.

    Raises:
        Damaged: It is no plain name that ends in `suffix`.
    """
    plain = isinstance(name, str) and name.isprintable() and name not in {"", ".", ".."}
    if not plain or "/" in str(name) or not str(name).endswith(suffix):
        raise Damaged(
            f"{index.name} names {ascii(name)[:80]}, which is nothing that lies beside it"
        )
    return str(name)


def variants(folder: Path, stem: str) -> list[str]:
    """Return the variants in which a model's safetensors files lie in a folder, "" first.

    `stem` is e.g. "diffusion_pytorch_model"; of "diffusion_pytorch_model.fp16.safetensors" the
    variant is "fp16", of the usual name "". A folder that is not there has none.

    Raises:
        NotReadable: The folder may not be read.
    """
    return sorted({variant for _, variant in _files_of(folder, stem)})


def variant_of(name: str) -> str:
    """Return the variant that the name of a model's file tells, "" for none."""
    match = _FILE.fullmatch(name)
    return (match["before"] or match["after"] or "") if match else ""


def shards(folder: Path, stem: str, variant: str = "") -> list[Path] | None:
    """Return the safetensors files of `stem` in a variant, or None where there are none at all.

    Raises:
        NotWhole: Shards without their index, or an index whose shards are not all there.
        Damaged: An index that no writer leaves.
        NotReadable: The folder or the index may not be read.
    """
    found = [name for name, its in _files_of(folder, stem) if its == variant]
    index = f"{stem}.safetensors.index.{variant}.json".replace("..", ".")
    single = [name for name in found if name != index and "-of-" not in name]
    if index not in found:
        if found and not single:
            raise NotWhole(f"{folder.name}/ has shards but no index yet")
        return [folder / single[0]] if single else None
    names = _indexed(folder / index)
    missing = [name for name in names if name not in found]
    if missing:
        raise NotWhole(
            f"{folder.name}/{missing[0][:80]} is not there yet ({len(missing)} shards lack)"
        )
    return [folder / name for name in names]


_SHARD = r"(?:-\d+-of-\d+)?"
_FILE = re.compile(
    rf"(?P<stem>[^.]+?){_SHARD}(?:\.(?P<before>[^.]+?))?{_SHARD}"
    r"\.safetensors(?:\.index(?:\.(?P<after>[^.]+))?\.json)?"
)
"""As diffusers and transformers name weights: the variant of an index stands behind."""


def _files_of(folder: Path, stem: str) -> list[tuple[str, str]]:
    """Return (name, variant) of the files that are called as a model's weights or their index."""
    try:
        listed = sorted(os.listdir(folder))
    except PermissionError as error:
        raise refusal(folder) from error
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = [match for name in listed if name.isprintable() and (match := _FILE.fullmatch(name))]
    return [(match[0], variant_of(match[0])) for match in matches if match["stem"] == stem]


def _indexed(index: Path) -> list[str]:
    parts = read_json(index)
    listed = parts.get("weight_map") if isinstance(parts, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise Damaged(f"{index.name} names no shards")
    names = listed.values()
    return sorted({beside(index, name, ".safetensors") for name in names})


def stat(root: Path, paths: list[Path]) -> tuple[WeightFile, ...]:
    """Return the files' identities, relative to `root`; of a link that of what it points to.

    Raises:
        NotWhole: One is gone.
        Damaged: One is no regular file.
        NotReadable: One may not be read.
    """
    files = []
    for path in paths:
        with _refusals(path):
            found = _regular(path)
        if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            raise refusal(path)
        name = path.relative_to(root).as_posix()
        files.append(WeightFile(name, found.st_size, found.st_mtime_ns, inode_of(found)))
    return tuple(files)


def is_same(file: WeightFile, found: os.stat_result) -> bool:
    """Whether a file is as it was found, perhaps by another machine, to which its disk is local."""
    inode = inode_of(found)
    known = (file.size, file.mtime_ns, file.inode or inode)
    return known == (found.st_size, found.st_mtime_ns, inode or file.inode)


def sparse(path: Path) -> bool:
    """Whether parts of a file were never written; where a file system cannot tell, they were.

    Raises:
        NotWhole, NotReadable: As `opened`; also when its very end was not written yet.
    """
    with opened(path) as file:
        number = file.fileno()
        size = os.fstat(number).st_size
        try:
            if os.lseek(number, 0, os.SEEK_HOLE) >= size:
                return False
            os.lseek(number, size - 1, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return False
            raise NotWhole(f"{path.name} has its full size, but its end is not written") from error
    return True


def content_digest(root: Path, files: tuple[WeightFile, ...]) -> str:
    """Identify weights by content: sixteen hex digits.

    Files up to 4 MiB are read whole, larger ones at 64 evenly spaced places (the first of which
    holds the header) so that a checkpoint of many GB costs milliseconds; training steps change
    practically every tensor, so a sample tells two checkpoints apart.

    Raises:
        NotWhole, NotReadable: As `opened`.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.size}\0".encode())
        with opened(root / file.path) as handle:
            for piece in samples(handle, file.size):
                digest.update(piece)
    return digest.hexdigest()[:16]


def samples(file: BinaryIO, size: int, begin: int = 0) -> Iterator[bytes]:
    """Yield all `size` bytes from `begin` on, of many 64 evenly spaced pieces."""
    file.seek(begin)
    if size <= SAMPLES * SAMPLE_BYTES:
        yield file.read(size)
        return
    for n in range(SAMPLES):
        file.seek(begin + (size - SAMPLE_BYTES) * n // (SAMPLES - 1))
        yield file.read(SAMPLE_BYTES)


def refusal(path: Path) -> NotReadable:
    """Return the error to raise for a path that may not be read: it says whose it is."""
    try:
        found = path.stat()
        try:
            owner = pwd.getpwuid(found.st_uid).pw_name
        except KeyError:
            owner = f"uid {found.st_uid}"
        whose = f"mode {found.st_mode & 0o777:04o}, owner {owner}"
    except OSError:
        owner, whose = "the user who trains", "its folder may not be entered"
    return NotReadable(f"{path} cannot be read ({whose})", fix=f"run clipwatch as {owner}")
