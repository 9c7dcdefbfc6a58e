"""Links of the documents lead somewhere: to a file that is there, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs_kit import DOCUMENTS, anchors, prose
from places import ROOT

_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda it: str(it.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Each relative link names a file of the project, and a heading that this file has."""
    dead = []
    for link in _LINK.findall(prose(document)):
        path, _, anchor = link.partition("#")
        to = document.parent / path if path else document
        if "://" in link or link.startswith("mailto:"):
            continue
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            dead.append(link)
    assert dead == []


def test_documents_are_found() -> None:
    """README, changelog, and all of docs/ are among them."""
    names = {str(it.relative_to(ROOT)) for it in DOCUMENTS}
    assert {"README.md", "CHANGELOG.md", "docs/settings.md", "docs/families.md"} <= names


def test_pictures_are_small_and_shown() -> None:
    """Each is a WebP of 150 kB at most, as scripts/make_docs_pictures.py writes it, and is used."""
    shown = {
        (document.parent / link).resolve()
        for document in DOCUMENTS
        for link in _LINK.findall(prose(document))
        if link.endswith(".webp")
    }
    pictures = {*(ROOT / "docs" / "pictures").iterdir()}
    assert pictures
    assert shown == pictures
    for picture in pictures:
        data = picture.read_bytes()
        assert (data[:4], data[8:12], len(data) <= 150_000) == (b"RIFF", b"WEBP", True), picture
