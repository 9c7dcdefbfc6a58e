"""Sample prompts in a job of ai-toolkit: `sample` of the first process in its config.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clipwatch.kit import yamlfiles
from clipwatch.kit.textfiles import refused
from clipwatch.prompts import options
from clipwatch.prompts.listing import Entry
from clipwatch.prompts.options import Option

PLACES = ("[trigger]", "[name]")
"""What stands in a prompt for the trigger word (toolkit/prompt_utils.py)."""

_SHAPE = "must hold config: process: with sample: and its prompts, as ai-toolkit's jobs do"


def process(whole: Any) -> Mapping[str, Any] | None:
    """Return the first process of a job, None where it is no job of ai-toolkit."""
    config = whole.get("config") if isinstance(whole, dict) else None
    processes = config.get("process") if isinstance(config, dict) else None
    first = processes[0] if isinstance(processes, list) and processes else None
    return first if isinstance(first, dict) else None


def entries(path: Path, text: str) -> Iterator[Entry]:
    """Yield the prompts of `samples`, or of the older `prompts`, with the trigger word in place.

    Raises:
        SettingsError: It is no YAML, or of another shape.
    """
    job = process(yamlfiles.parse(path, text))
    sample = job.get("sample") if job else None
    if job is None or not isinstance(sample, dict):
        raise refused(_SHAPE, file=path, line=1)
    listed = sample.get("samples")
    if listed is None:
        listed = sample.get("prompts")
    items = listed if isinstance(listed, list) else []
    lines = _lines(text)
    for number, item in enumerate(items):
        members = item if isinstance(item, dict) else {"prompt": item}
        prompt = members.get("prompt")
        if prompt is None:
            continue  # a sample without one is made of its picture alone
        if not isinstance(prompt, str):
            raise refused(_SHAPE, file=path, line=1)
        line = lines[number] if len(lines) == len(items) else 1
        yield _entry(path, line, prompt, members, job.get("trigger_word"))


def _entry(
    path: Path, line: int, prompt: str, members: Mapping[str, Any], trigger: object
) -> Entry:
    said = options.of_ai_toolkit(prompt)
    found = list(options.of_members((str(it), value) for it, value in members.items()))
    asked = {it.name: it for it in found if isinstance(it, Option)}
    asked |= {it.name: it for it in said.options}  # what stands in the text comes later there
    text = said.text
    if isinstance(trigger, str) and trigger:
        for place in PLACES:
            text = text.replace(place, trigger)
    ignored = (*said.ignored, *(it for it in found if isinstance(it, str)))
    return Entry(path, line, text, ignored=ignored, options=tuple(asked.values()))


def _lines(text: str) -> list[int]:
    """Return the lines on which the samples begin, if they are written as the trainer does."""
    found: list[int] = []
    begins: int | None = None
    first = 0
    for number, line in enumerate(text.split("\n"), start=1):
        bare = line.strip()
        here = len(line) - len(line.lstrip())
        if begins is None:
            begins = here if bare in ("prompts:", "samples:") else None
        elif bare.startswith("- ") and here >= begins and (not found or here == first):
            first = here
            found.append(number)
        elif bare and here <= begins and not bare.startswith("#"):
            break
    return found
