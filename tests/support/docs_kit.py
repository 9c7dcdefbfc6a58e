"""What the documents hold: their code blocks, and the commands that they tell people to type."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from clipwatch.cli import main
from places import ROOT

PLACES = ("*.md", "docs/*.md", "benchmarks/*.md", "tests/data/**/README.md")
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_OURS = re.compile(r"(?:^|[\s=])clipwatch (?!has\b|may\b)[-\w]")  # not a sentence of an error


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str


def prose(document: Path) -> str:
    """Return a document without its code blocks."""
    return _BLOCK.sub("", document.read_text(encoding="utf-8"))


def blocks(document: Path) -> list[Block]:
    """Return a document's code blocks."""
    found = _BLOCK.finditer(document.read_text(encoding="utf-8"))
    return [Block(it[2], re.sub(f"^{it[1]}", "", it[3], flags=re.MULTILINE)) for it in found]


def objects(document: Path) -> list[dict[str, Any]]:
    """Return the objects of a document's JSON, whole or as lines out of one."""
    texts = [block.text for block in blocks(document) if block.language == "json"]
    return [json.loads(text if text.startswith("{") else f"{{{text}}}") for text in texts]


def scripts(document: Path) -> list[str]:
    """Return what a document tells people to type: whole blocks, and single commands.

    A block of bash is one script; of a block with output only the lines after "$ " are typed. A
    command in a sentence or a table is one script, or several where it tells of choices.
    """
    return [*_typed(document), *itertools.chain(*map(spread, _told(document)))]


def _typed(document: Path) -> list[str]:
    found = []
    for block in blocks(document):
        typed = re.findall(r"^\$ (.*)$", block.text, re.MULTILINE)
        if block.language in ("bash", "sh"):
            found.append(block.text)
        elif typed:
            found.append("\n".join(typed))
        elif block.language.startswith("json"):  # a hook of the trainer's
            hooks = re.findall(r'"(clipwatch [^"]*)"', block.text)
            found += [re.sub(r"\{(\w+)\}", r"\1", hook) for hook in hooks]
    return found


def _told(document: Path) -> list[str]:
    return [span for span in _SPAN.findall(prose(document)) if _OURS.search(span)]


def spread(told: str) -> list[str]:
    """Return the calls that a line of a table stands for.

    Those without and with what is in brackets, and one for each of several words with "|" between
    them. Nothing is left of a mere name of a command, which is no call without its arguments.
    """
    text = told.replace("\\|", "|")
    without = re.sub(r" *\[[^\]]*\]", "", text)
    found = []
    for form in (without, re.sub(r"[\[\]]", "", text)):
        choices = [word.split("|") for word in form.replace(" ...", "").split(" ")]
        found += [" ".join(words) for words in itertools.product(*choices)]
    return [call for call in dict.fromkeys(found) if not _is_a_name(call)]


def _is_a_name(call: str) -> bool:
    words = shlex.split(call)
    command = main.commands.get(words[1]) if words[0] == "clipwatch" and len(words) == 2 else None
    return command is not None and any(
        it.required or isinstance(command, click.Group) for it in command.params
    )


@cache
def anchors(document: Path) -> set[str]:
    """Return what GitHub makes of the headings: lower case, no punctuation, "-" for spaces."""
    headings = re.findall(r"^#+ (.*)$", prose(document), flags=re.MULTILINE)
    texts = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in texts}


def tables(document: Path) -> list[list[list[str]]]:
    """Return a document's tables: rows of cells, the heading first."""
    found: list[list[list[str]]] = []
    inside = False
    for line in prose(document).splitlines():
        row = line.strip()
        if row.startswith("|"):
            cells = [it.strip() for it in re.split(r"(?<!\\)\|", row.strip("|"))]
            if not inside:
                found.append([])
            if not re.fullmatch(r"[-:| ]+", row):
                found[-1].append(cells)
        inside = row.startswith("|")
    return found
