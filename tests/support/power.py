"""What a loss of power may leave of the files that a program wrote.

strace records what the program and its children do to files; a disk is played through it call by
call. What was synced stays. Of the rest each block, each file's size and each entry of a folder may
have come to the disk or not, in any order.
"""

from __future__ import annotations

import re
import subprocess
from codecs import escape_decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

_CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,"
    "rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,mkdir,mkdirat,"
    "fsync,fdatasync,copy_file_range,sendfile"
)
_KEPT = (0.0, 0.5, 1.0, -1.0, -1.0)  # how much has come to the disk; -1: all but one
_BLOCKS = (512, 4096, 1 << 18)  # a disk's, a page's, what the kernel writes at once
_CALL = re.compile(rb"(\w+)\((.*)\) += (\d+)(?:<((?:[^>\\]|\\.)*)>)?(?:\(deleted\))?\n", re.DOTALL)
_ARGUMENT = re.compile(
    rb'"((?:[^"\\]|\\.)*)"|\w+<((?:[^>\\]|\\.)*)>(?:\(deleted\))?'
    rb"|\[(\d+)\](?: => \[\d+\])?|[^,\s][^,]*"
)


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that succeeded: its arguments, paths and data as bytes, and what it gave."""

    name: str
    arguments: list[bytes]
    result: int
    path: bytes

    def changes(self, below: bytes) -> bool:
        """Whether it changes what is below a folder, or brings that to the disk."""
        named = any((it + b"/").startswith(below) for it in (self.path, *self.arguments))
        reads = any(it.startswith((b"O_RDONLY", b"O_PATH")) for it in self.arguments)
        return named and not reads and not any(it.endswith(b"-shm") for it in self.arguments)


def record(command: Sequence[str], root: Path, environment: dict[str, str]) -> Recording:
    """Run a program, and note what it and its children do to the files below `root`.

    That is on the disk as it is now.
    """
    trace = root.with_suffix(".strace")
    tracing = ["strace", "-f", "-y", "-s", str(1 << 24), "-e", f"trace={_CALLS}", "-o", str(trace)]
    try:
        subprocess.run([*tracing, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("losses of power need strace, and the right to trace")
    before = here(root)
    done = subprocess.run(
        [*tracing, "--seccomp-bpf", *command], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    below = str(root).encode() + b"/"
    found = [call for call in _calls(trace) if call.changes(below)]
    return Recording(root, before, found)


def _calls(trace: Path) -> Iterator[Call]:
    """Yield what was recorded, in the order in which it was done."""
    begun: dict[bytes, bytes] = {}
    with trace.open("rb") as lines:
        for line in lines:
            thread, _, rest = line.partition(b" ")
            rest = rest.lstrip()
            if rest.endswith(b" <unfinished ...>\n"):
                begun[thread] = rest.removesuffix(b" <unfinished ...>\n")
                continue
            if rest.startswith(b"<... "):
                rest = begun.pop(thread) + rest.partition(b" resumed>")[2]
            if found := _CALL.fullmatch(rest):
                name, arguments, result, path = found.groups()
                split = [_read(argument) for argument in _ARGUMENT.finditer(arguments)]
                yield Call(name.decode(), split, int(result), _plain(path or b""))


def _read(found: re.Match[bytes]) -> bytes:
    text, place, offset = found.groups()
    if text is not None:
        return _plain(text)
    return offset or (found[0] if place is None else _plain(place))


def _plain(text: bytes) -> bytes:
    plain: bytes = escape_decode(text)[0]
    return plain


@dataclass(frozen=True)
class Recording:
    """What a program did to the files below `root`, and what was there before."""

    root: Path
    before: Tree
    calls: Sequence[Call]

    def cuts(self, count: int, luck: Random) -> Iterator[Disk]:
        """Yield the disk at so many moments, in order."""
        disk = Disk(self.root, self.before)
        moments = sorted(luck.choices(range(len(self.calls)), k=count))
        for number, call in enumerate(self.calls):
            for _ in range(moments.count(number)):
                yield disk
            disk.play(call)

    def end(self) -> Disk:
        """Return the disk after the last of it."""
        disk = Disk(self.root, self.before)
        for call in self.calls:
            disk.play(call)
        return disk


def _come(count: int, kept: float, luck: Random) -> list[bool]:
    lost = luck.randrange(count) if count else 0
    return [luck.random() < kept if kept >= 0 else number != lost for number in range(count)]


@dataclass(eq=False, slots=True)
class File:
    """A file: what is on the disk, and what was done since: (offset, data), or (size, None)."""

    durable: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def now(self) -> bytes:
        """Return what a reader sees."""
        return bytes(_do(bytearray(self.durable), self.since))

    def sync(self) -> None:
        """Bring it to the disk."""
        _do(self.durable, self.since)
        self.since.clear()

    def left(self, luck: Random, kept: float, block: int) -> bytes:
        """Return what may be on the disk: of each block of each write it is, or not."""
        # so many of the changes made its size what it is
        size = len(self.since) if luck.random() < 1 / 2 else luck.randint(0, len(self.since))
        pieces: list[tuple[int, bytes | None]] = []
        for number, (offset, data) in enumerate(self.since):
            if data is None:
                pieces += [(offset, None)] if number < size else []
                continue
            end = offset + len(data)
            edges = [offset, *range((offset // block + 1) * block, end, block), end]
            pieces += [
                (start, data[start - offset : stop - offset]) for start, stop in pairwise(edges)
            ]
        come = _come(len(pieces), kept, luck)
        partly = [it for it, came in zip(pieces, come, strict=True) if came or it[1] is None]
        length = len(_do(bytearray(self.durable), self.since[:size]))
        return bytes(_do(bytearray(self.durable), partly)[:length].ljust(length, b"\0"))


def _do(data: bytearray, changes: Sequence[tuple[int, bytes | None]]) -> bytearray:
    for offset, new in changes:
        data += bytes(max(0, offset - len(data)))
        if new is None:
            del data[offset:]
        else:
            data[offset : offset + len(new)] = new
    return data


class Folder(dict[bytes, "Node"]):
    """What a folder holds."""

    def __hash__(self) -> int:  # type: ignore[override]  # one of them is that one
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


Node = File | Folder | bytes
"""A file, a folder, or what a symbolic link says."""


Entry = tuple[Folder, bytes, Node]
"""A folder, a name in it, and what that means."""


@dataclass(slots=True)
class Change:
    """An entry `taken` away and one `put`: both or none, as a rename is."""

    taken: Entry | None
    put: Entry | None
    durable: bool = False

    def touches(self, folder: Folder) -> bool:
        """Whether to sync this folder brings it to the disk."""
        return any(entry is not None and entry[0] is folder for entry in (self.taken, self.put))


class Disk:
    """Everything below `root`, which holds `before` at first, as calls leave it."""

    def __init__(self, root: Path, before: Tree) -> None:
        self.root = Folder()
        self._at = str(root).encode() + b"/"
        self._changes: list[Change] = []
        self._places: dict[bytes, int] = {}
        self._hold(self.root, before)

    def now(self) -> Tree:
        """Return what a reader sees."""
        return _seen(self.root)

    def play(self, call: Call) -> None:
        """Do what a call did, if it was done here."""
        match call.name, call.arguments:
            case "write", [path, data, *_]:
                self._write(path, data[: call.result])
            case "pwrite64", [path, data, _, offset]:
                self._write(path, data[: call.result], int(offset))
            case "copy_file_range", [source, offset, path, b"NULL", *_]:
                self._write(path, self._part(source, int(offset), call.result))
            case "sendfile", [path, source, offset, _]:
                self._write(path, self._part(source, int(offset), call.result))
            case "ftruncate" | "truncate", [path, size]:
                if file := self._file(path):
                    file.since.append((int(size), None))
            case _:
                self._play_name(call)

    def _play_name(self, call: Call) -> None:
        match call.name, call.arguments:
            case "open" | "openat", _:
                self._open(call)
            case "fsync" | "fdatasync", [path]:
                self._sync(path)
            case "rename" | "renameat" | "renameat2", _:
                self._rename(*_paths(call, 2))
            case "mkdir" | "mkdirat", _:
                self._enter(_paths(call, 1)[0], Folder())
            case "symlink", [text, path]:
                self._enter(path, text)
            case "unlink" | "unlinkat" | "rmdir", _:
                self._remove(*_paths(call, 1))
            case _, arguments:
                assert not any(it.startswith(self._at) for it in arguments), call

    def lost(self, luck: Random) -> Tree:
        """Return what may be left below the root."""
        # journals of file systems bring entries to the disk in their order; nothing promises it
        ordered, kept = luck.random() < 1 / 3, luck.choice((*_KEPT, 1.0, 1.0))
        loose = [change for change in self._changes if not change.durable]
        come = loose[: luck.randint(0, len(loose))]
        if not ordered:
            come = [
                it for it, came in zip(loose, _come(len(loose), kept, luck), strict=True) if came
            ]
        there = {id(change) for change in come}
        left: dict[Folder, dict[bytes, Node]] = {}
        for change in self._changes:
            if change.durable or id(change) in there:
                _make(change, left)
        return _tree(self.root, left, luck)

    def _hold(self, folder: Folder, tree: Tree) -> None:
        for name, what in tree.items():
            node: Node = Folder() if isinstance(what, dict) else b""
            if isinstance(what, bytes):
                node = File(bytearray(what))
            elif isinstance(what, str):
                node = what.encode()
            self._change(None, (folder, name.encode(), node))
            self._changes[-1].durable = True
            if isinstance(node, Folder) and isinstance(what, dict):
                self._hold(node, what)

    def _open(self, call: Call) -> None:
        flags = call.arguments[2] if call.name == "openat" else call.arguments[1]
        path = call.path
        if not path.startswith(self._at):
            return
        file = self._file(path)
        if file is None:
            file = File()
            self._enter(path, file)
        if b"O_TRUNC" in flags:
            file.since.append((0, None))
        self._places[path] = len(file.now()) if b"O_APPEND" in flags else 0

    def _write(self, path: bytes, data: bytes, offset: int | None = None) -> None:
        if file := self._file(path):
            place = self._places[path] if offset is None else offset
            file.since.append((place, data))
            if offset is None:
                self._places[path] = place + len(data)

    def _part(self, path: bytes, offset: int, size: int) -> bytes:
        file = self._file(path)
        data = file.now() if file else Path(path.decode()).read_bytes()
        return data[offset : offset + size]

    def _sync(self, path: bytes) -> None:
        node = self._node(path)
        if isinstance(node, File):
            node.sync()
        if isinstance(node, Folder):
            for change in self._changes:
                change.durable |= change.touches(node)

    def _enter(self, path: bytes, node: Node) -> None:
        if path.startswith(self._at):
            self._change(None, (*self._place(path), node))

    def _remove(self, path: bytes) -> None:
        if path.startswith(self._at):
            folder, name = self._place(path)
            self._change((folder, name, folder[name]), None)

    def _rename(self, here: bytes, there: bytes) -> None:
        if here.startswith(self._at):
            folder, name = self._place(here)
            node = folder[name]
            self._change((folder, name, node), (*self._place(there), node))

    def _change(self, taken: Entry | None, put: Entry | None) -> None:
        if taken:
            del taken[0][taken[1]]
        if put:
            put[0][put[1]] = put[2]
        self._changes.append(Change(taken, put))

    def _place(self, path: bytes) -> tuple[Folder, bytes]:
        above, _, name = path.rpartition(b"/")
        folder = self._node(above)
        assert isinstance(folder, Folder), path
        return folder, name

    def _file(self, path: bytes) -> File | None:
        node = self._node(path)
        return node if isinstance(node, File) else None

    def _node(self, path: bytes) -> Node | None:
        node: Node | None = self.root if (path + b"/").startswith(self._at) else None
        for name in path.removeprefix(self._at[:-1]).split(b"/")[1:]:
            node = node.get(name) if isinstance(node, Folder) else None
        return node


def _paths(call: Call, count: int) -> list[bytes]:
    """Return the paths that a call names, which it may name relative to open folders."""
    if not call.name.endswith(("at", "at2")):
        return call.arguments[:count]
    above, names = call.arguments[0 : 2 * count : 2], call.arguments[1 : 2 * count : 2]
    return [
        name if name.startswith(b"/") else folder + b"/" + name
        for folder, name in zip(above, names, strict=True)
    ]


def _seen(folder: Folder) -> Tree:
    def read(node: Node) -> bytes | str | Tree:
        if isinstance(node, File):
            return node.now()
        return _seen(node) if isinstance(node, Folder) else node.decode()

    return {name.decode(): read(node) for name, node in folder.items()}


def _make(change: Change, left: dict[Folder, dict[bytes, Node]]) -> None:
    """Make a change, unless it stands on one that was lost."""
    if change.taken:
        folder, name, node = change.taken
        if left.get(folder, {}).get(name) is not node:
            return
        del left[folder][name]
    if change.put:
        folder, name, node = change.put
        entries = left.setdefault(folder, {})
        if change.taken or name not in entries:
            entries[name] = node


Tree = dict[str, "bytes | str | Tree"]
"""What is left: a file's bytes, what a link says, or what a folder holds."""


def _tree(folder: Folder, left: dict[Folder, dict[bytes, Node]], luck: Random) -> Tree:
    kept, block = luck.choice(_KEPT), luck.choice(_BLOCKS)
    tree: Tree = {}
    for name, node in left.get(folder, {}).items():
        match node:
            case File():
                tree[name.decode()] = node.left(luck, kept, block)
            case Folder():
                tree[name.decode()] = _tree(node, left, luck)
            case text:
                tree[name.decode()] = text.decode()
    return tree


def lay(tree: Tree, folder: Path) -> None:
    """Write what is left into a folder that is not there yet."""
    folder.mkdir(parents=True)
    for name, what in tree.items():
        place = folder / name
        if isinstance(what, bytes):
            place.write_bytes(what)
        elif isinstance(what, str):
            place.symlink_to(what)
        else:
            lay(what, place)


def here(folder: Path) -> Tree:
    """Return what a real folder holds."""
    return {
        path.name: str(path.readlink())
        if path.is_symlink()
        else here(path)
        if path.is_dir()
        else path.read_bytes()
        for path in folder.iterdir()
    }
