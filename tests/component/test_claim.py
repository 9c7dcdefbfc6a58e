"""One clipwatch for a directory of this machine, by the kernel's word."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from clipwatch.service.claim import Claim


@pytest.fixture
def claims() -> Iterator[tuple[Claim, Claim]]:
    """Return two of them, as of two processes."""
    with ExitStack() as stack:
        yield stack.enter_context(closing(Claim())), stack.enter_context(closing(Claim()))


def test_a_directory_is_one_s_until_it_ends(tmp_path: Path, claims: tuple[Claim, Claim]) -> None:
    """By whatever path; another directory is free."""
    one, other = claims
    output, link = tmp_path / "output", tmp_path / "link"
    output.mkdir()
    link.symlink_to(output)
    assert one.take(output) == ""
    assert one.take(link) == ""
    assert other.take(link) == f"another clipwatch (pid {os.getpid()})"
    assert other.take(tmp_path) == ""
    assert other.take(output) != ""
    one.close()
    assert other.take(output) == ""


def test_a_directory_in_the_place_of_another_is_taken_anew(
    tmp_path: Path, claims: tuple[Claim, Claim]
) -> None:
    """What was renamed is free for whoever watches it there."""
    one, other = claims
    output, old = tmp_path / "output", tmp_path / "old"
    output.mkdir()
    assert one.take(output) == ""
    output.rename(old)
    output.mkdir()
    assert one.take(output) == ""
    assert other.take(old) == ""
    assert other.take(output) != ""
    with pytest.raises(FileNotFoundError):
        one.take(tmp_path / "none")


def test_where_such_names_are_not_allowed_nobody_is_held_up(
    tmp_path: Path, claims: tuple[Claim, Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox may forbid them."""

    class Forbidden(socket.socket):
        def bind(self, _address: object) -> None:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", Forbidden)
    for claim in claims:
        assert claim.take(tmp_path) == ""
