"""What is an address, which form it has, and which can be used here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.names import run_id
from clipwatch.kit.addresses import address, wrong
from clipwatch.kit.secrets import masked


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("s3://bucket/run", "s3://bucket/run"),
        ("S3://bucket/run/", "s3://bucket/run"),
        ("s3a://bucket/run", "s3://bucket/run"),
        (Path("s3://bucket/run"), "s3://bucket/run"),
        ("gcs://bucket", "gs://bucket"),
        ("hf://user/repo@main", "hf://user/repo"),
        ("hf://user/repo@main/sub", "hf://user/repo/sub"),
        ("hf://user/repo@mainly", "hf://user/repo@mainly"),
        ("file:///data/run", "file:///data/run"),
        (Path("file:///data/run"), "file:///data/run"),
        ("output", ""),
        ("./s3:x", ""),
        ("/data/s3://bucket", ""),
        ("c:/data", ""),
        ("~/run", ""),
    ],
)
def test_an_address_has_one_form(written: str | Path, form: str) -> None:
    """However it is written, also as a path, which keeps one slash; a folder has none."""
    assert address(written) == form
    assert address(form) == form


@given(st.text())
def test_any_text_has_one_form_at_most(written: str) -> None:
    """What is an address is the same again when it is read again."""
    assert address(address(written)) == address(written)


def test_two_ways_to_write_it_are_one_run() -> None:
    """The run's name follows from the one form."""
    assert run_id(address("s3a://bucket/run/")) == run_id("s3://bucket/run")
    assert run_id("s3://bucket/run") != run_id("s3://bucket/other")


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("s3://key:s3cret@bucket/run", "who logs in"),
        ("sftp://user@host/run", "who logs in"),
        ("https://host/run?signature=s3cret", "a query"),
        ("hf://user:s3cret@host/run", "who logs in"),
        ("simplecache::s3://bucket", ""),
        ("hf://user/repo/..", "leads over . or .."),
        ("file:///data/../run", "leads over . or .."),
        ("gopher://host/run", "gopher:// is not known"),
        ("gs://bucket/run", "needs the package gcsfs"),
    ],
)
def test_what_cannot_be_used_is_told(written: str, what: str) -> None:
    """In words that hold no key; a package that lacks is named as pip knows it."""
    found = wrong(address(written)) if address(written) else None
    if not what:
        assert found is None
        return
    assert found is not None
    assert what in found[0]
    assert "s3cret" not in " ".join(found)


@pytest.mark.parametrize("good", ["hf://user/repo@v1/sub", "file:///data", "memory://run"])
def test_what_is_here_can_be_used(good: str) -> None:
    """The Hub's client is always installed."""
    assert wrong(good) is None


def test_a_revision_is_no_login() -> None:
    """An address of the Hub is shown as it is, and all else beside it is not."""
    assert masked("hf://user/repo@v1/sub") == "hf://user/repo@v1/sub"
    assert "s3cret" not in masked("hf://user/repo@v1 by https://me:s3cret@host")
    assert "s3cret" not in masked("hf://user:s3cret@host")
