"""Rows straight from the leaf pages of a SQLite file, whatever became of the tree above them.

SQLite finds a row through the pages above it; one bad bit there, and it reads nothing below.
The layout: https://www.sqlite.org/fileformat2.html#b_tree_pages
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Value = int | float | str | bytes | None

_LEAF = 0x0D  # type of a page that holds rows of a table
_POINTERS = 8  # where a leaf's list of cells begins
_NEGATIVE = 1 << 63
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type → bytes
_REAL, _ZERO, _ONE, _BLOB = 7, 8, 9, 12


def page_size(data: bytes) -> int:
    """Return the size of the file's pages as its header has it, else SQLite's default."""
    size = int.from_bytes(data[16:18], "big")
    size = 65536 if size == 1 else size
    return size if size in {1 << n for n in range(9, 17)} else 4096


def cells(data: bytes, size: int) -> Iterator[tuple[int, int]]:
    """Yield the rowid and the offset of each row in the file, page by page.

    The first page is passed over: it holds the schema.
    """
    for page in range(size, len(data), size):
        if data[page : page + 1] != bytes([_LEAF]):
            continue
        count = int.from_bytes(data[page + 3 : page + 5], "big")
        listed = data[page + _POINTERS : page + min(_POINTERS + 2 * count, size)]
        for (pointer,) in struct.iter_unpack(">H", listed[: len(listed) & ~1]):
            cell = page + pointer
            try:
                _, at = _varint(data, cell)
                rowid, _ = _varint(data, at)
            except ValueError:
                continue
            if 0 < rowid < _NEGATIVE:
                yield rowid, cell


def record(data: bytes, size: int, cell: int) -> tuple[Value, ...]:
    """Return the columns of the row at an offset.

    Raises:
        ValueError: They cannot be read.
    """
    length, at = _varint(data, cell)
    _, at = _varint(data, at)
    payload = _payload(data, size, at, length)
    head, at = _varint(payload, 0)
    kinds = []
    while at < head:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values, at = [], head
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    return tuple(values)


def _payload(data: bytes, size: int, at: int, length: int) -> bytes:
    """Join a row's first part with the pages that it spills into."""
    if length > len(data):
        raise ValueError("it is longer than the file")
    local = length
    if length > size - 35:
        least = (size - 12) * 32 // 255 - 23
        local = least + (length - least) % (size - 4)
        local = least if local > size - 35 else local
    parts, rest = [_piece(data, at, local)], length - local
    link = at + local
    while rest > 0:
        page = int.from_bytes(_piece(data, link, 4), "big")
        link = (page - 1) * size
        taken = min(rest, size - 4)
        parts.append(_piece(data, link + 4, taken))
        rest -= taken
    return b"".join(parts)


def _value(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind in (0, _ZERO, _ONE):
        return {0: None, _ZERO: 0, _ONE: 1}[kind], at
    if kind in _INTEGERS:
        end = at + _INTEGERS[kind]
        return int.from_bytes(_piece(payload, at, end - at), "big", signed=True), end
    if kind == _REAL:
        real: float = struct.unpack(">d", _piece(payload, at, 8))[0]
        return real, at + 8
    if kind < _BLOB:
        raise ValueError("it has a column of no known type")
    length = (kind - _BLOB) // 2
    piece = _piece(payload, at, length)
    try:
        return piece.decode() if kind % 2 else piece, at + length
    except UnicodeDecodeError as error:
        raise ValueError("its text is no UTF-8") from error


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return SQLite's variable-length integer and the offset behind it."""
    value = 0
    for n, byte in enumerate(data[at : at + 9]):
        if n == 8:  # noqa: PLR2004 - the ninth byte gives all its bits
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the first bit says that more follow
            return value, at + n + 1
    raise ValueError("it is cut off")


def _piece(data: bytes, at: int, length: int) -> bytes:
    piece = data[at : at + length] if at >= 0 else b""
    if len(piece) != length:
        raise ValueError("it is cut off")
    return piece
