"""Where a trainer leaves things: the output directory, what lies in it, and what is around it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

from clipwatch.layouts.files import Damaged, NotReadable, NotWhole
from clipwatch.layouts.header import read_header

ABOVE: Final = 5
"""Folders above one of ours in which what a trainer names is looked for; EveryDream2 alone puts
three between its checkpoints and the folder that it is run in."""

_TAIL: Final = 3  # parts at the end of a path that is of another machine

_ENTRIES, _FOLDERS, _DEPTH, _HEADERS = 50_000, 200, 2, 32
_WEIGHTS = ".safetensors"
_TELLING = ("ss_", "modelspec.", "ot_", "software", "lora_adapter_metadata")
_READ = (_WEIGHTS, ".json", ".toml", ".yaml", ".yml", ".sh", ".bat")
_PASSED = re.compile(r".*-state|logs?|samples?|optimizer.*")
HOLDERS: Final = ("models", "base", "checkpoints")
"""Folders in which people keep what they train from."""


@dataclass(frozen=True, slots=True)
class Place:
    """An output directory, or some files of weights.

    Attributes:
        roots: The output directory, and the folders of the files; absolute.
        weights: The newest file of weights that tells something, None for none.
        metadata: What it tells.
    """

    roots: tuple[Path, ...]
    weights: Path | None
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, output_dir: Path, files: Sequence[Path] = ()) -> Place:
        """Look around once; what cannot be read is passed over."""
        paths = [_absolute(path) for path in files]
        roots = tuple(dict.fromkeys((_absolute(output_dir), *(path.parent for path in paths))))
        headers = _headers(paths or _weights(roots[0]))
        telling = (it for it in headers if any(name.startswith(_TELLING) for name in it[1]))
        return cls(roots, *next(telling, (None, {})))

    def around(self, file: Path | None) -> tuple[Path, ...]:
        """Return the folders in which a name is looked for: ours and that of the file, and up."""
        own = (*self.roots, *((file.parent,) if file else ()))
        return tuple(dict.fromkeys(it for root in own for it in (root, *root.parents[:ABOVE])))

    def candidates(self, name: str, file: Path | None) -> Iterator[Path]:
        """Yield the paths that a name may mean here, which may be of another machine.

        As written, then its end below each folder around.
        """
        written = PurePosixPath(os.path.expanduser(name.replace("\\", "/")))  # noqa: PTH111
        if written.is_absolute():
            yield Path(written)
        parts = [it for it in written.parts if it not in ("/", "..", ".")]
        for folder in self.around(file):
            for number in range(min(_TAIL, len(parts)), 0, -1):
                yield folder.joinpath(*parts[-number:])

    def models(self, name: str, file: Path | None) -> Iterator[Path]:
        """Yield the same, and its last part where people keep models."""
        yield from self.candidates(name, file)
        last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
        if last.strip("."):
            yield from (it / holder / last for it in self.around(file) for holder in HOLDERS)

    def file(self, name: str, file: Path | None) -> Path | None:
        """Return the regular file that a name means here, None where there is none.

        One that is only called the same counts in our folders and one above.
        """
        near = {it for root in self.roots for it in (root, root.parent)}
        near |= {file.parent} if file else set()
        bare = "/" not in name and "\\" not in name
        for path in self.candidates(name, file):
            alone = path.parent in self.around(file) and path.parent not in near
            if is_file(path) and (bare or not alone or str(path) == name):
                return path
        return None


def names(folder: Path) -> tuple[list[str], list[str]]:
    """Return the folders and files in a folder that may tell something, the newest first.

    Links count as what they lead to; what cannot be read has none.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, _ENTRIES):
                if entry.is_file(follow_symlinks=False) and not _is_read(entry.name):
                    continue  # thousands of pictures cost no look at each
                kind = _mode(Path(entry.path))
                if kind is not None and stat.S_ISDIR(kind.st_mode):
                    folders.append((-kind.st_mtime_ns, entry.name))
                elif kind is not None and stat.S_ISREG(kind.st_mode) and _is_read(entry.name):
                    files.append((-kind.st_mtime_ns, entry.name))
    except (OSError, ValueError):
        return [], []
    return [name for _, name in sorted(folders)], [name for _, name in sorted(files)]


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the regular files of a folder whose names match an expression, the newest first."""
    return [folder / it for it in names(folder)[1] if re.fullmatch(pattern, it, re.IGNORECASE)]


def is_file(path: Path) -> bool:
    """Whether it is a regular file, as far as we can see."""
    found = _mode(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_blank(path: Path) -> bool:
    """Whether nothing can stand in it: no regular file, or one with a line feed at most."""
    found = _mode(path)
    return found is None or not stat.S_ISREG(found.st_mode) or found.st_size <= 1


def is_folder(path: Path) -> bool:
    """Whether it is a folder, as far as we can see."""
    found = _mode(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _mode(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):  # a name may be too long, or have a NUL
        return None


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path's follows links


def _weights(root: Path) -> Iterator[Path]:
    """Yield the files of weights in a folder, then those one and two folders below it."""
    level = [root]
    for _ in range(_DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            folders, files = names(folder)
            yield from (folder / it for it in files if _is_weights(it))
            below += [folder / it for it in folders if not _PASSED.fullmatch(it)]
        level = below[:_FOLDERS]


def _is_read(name: str) -> bool:
    return name.lower().endswith(_READ)


def _is_weights(name: str) -> bool:
    return name.endswith(_WEIGHTS) and not _PASSED.fullmatch(name)


def _headers(paths: Iterator[Path] | Sequence[Path]) -> Iterator[tuple[Path, Mapping[str, str]]]:
    for path in islice(paths, _HEADERS):
        try:
            yield path, read_header(path).metadata
        except (Damaged, NotReadable, NotWhole, OSError, ValueError):
            continue
