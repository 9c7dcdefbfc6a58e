"""An output directory as it lies on disk, listed for the layouts."""

from __future__ import annotations

import os
from pathlib import Path

from clipwatch.layouts.base import Listing
from clipwatch.layouts.files import NotReadable, refusal


def listed(output_dir: Path) -> Listing:
    """List an output directory: one scan, and what each link in it leads to.

    Raises:
        FileNotFoundError: It does not exist.
        NotReadable: It is there but cannot be read; its text says why.
    """
    try:
        with os.scandir(output_dir) as entries:
            found = list(entries)
    except PermissionError as error:
        raise refusal(output_dir) from error
    except NotADirectoryError as error:
        message = f"{output_dir} is a file, not an output directory"
        raise NotReadable(message, fix="correct output_dir") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        message = f"{output_dir} cannot be read: {error.strerror or error}"
        raise NotReadable(message, fix="see to its disk or mount") from error
    return _listing(output_dir, found)


def listed_alone(path: Path) -> Listing:
    """List nothing but one folder or file of the directory that it lies in; no scan."""
    folders, files = ((path.name,), ()) if path.is_dir() else ((), (path.name,))
    return Listing(path.parent, folders, files, lambda name: _exists(f"{path.parent}/{name}"))


def _listing(root: Path, entries: list[os.DirEntry[str]]) -> Listing:
    folders, files, links = [], [], {}
    for entry in entries:
        try:
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file():
                files.append(entry.name)
            else:
                continue
        except OSError:  # a link that leads in a circle
            continue
        if entry.is_symlink():
            folder, name = os.path.split(os.path.realpath(entry.path))
            if folder == os.path.realpath(root):
                links[entry.name] = name
    return Listing(
        root,
        tuple(folders),
        tuple(files),
        lambda name: _exists(f"{root}/{name}"),
        links,
        lambda name: _inside(root / name),
    )


def _inside(folder: Path) -> Listing:
    try:
        return listed(folder)
    except (OSError, NotReadable):
        return Listing(folder, (), (), lambda _: False)


def _exists(path: str) -> bool:
    """Whether it is there as far as we can see; Path.exists raises where we may not look."""
    return os.path.exists(path)  # noqa: PTH110 - see above; a Path costs more than the call
