"""docs/families.md says of each family what the program does with it."""

from __future__ import annotations

import re

import embedding_kit
from clipwatch.evaluator.generation.calls_rules import SIMPLETUNER, Rule
from clipwatch.evaluator.generation.joins import JOINS
from places import ROOT

PAGE = (ROOT / "docs" / "families.md").read_text()


def classes(heading: str) -> list[tuple[str, str]]:
    """Return (class, its row) of the tables below a heading."""
    part = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\|(.*)\|$", part, re.MULTILINE)
    return [(found[1], row) for row in rows if (found := re.search(r"`(\w+Pipeline)`", row))]


def test_it_names_all_whose_prompts_are_kept_and_called_plainly() -> None:
    """Each class once, in the table where it belongs."""
    kept, _, plain = PAGE.split("## Prompts\n")[1].partition("Every other class")
    assert sorted(re.findall(r"`(\w+Pipeline)`", kept)) == sorted(JOINS)
    rows = plain.split("\n## ")[0]
    assert sorted(re.findall(r"`(\w+Pipeline)`", rows)) == sorted(embedding_kit.PLAIN)


def test_it_tells_simpletuners_rules() -> None:
    """Of each class that has some, with the length of its texts and its kind of guidance."""
    told = dict(classes("With SimpleTuner's rules"))
    for name, rule in SIMPLETUNER.items():
        if rule != Rule(differs=rule.differs):  # which is nothing but a difference
            row = told[name]
            assert str(rule.text_length or "") in row
            assert bool(rule.star) == ("CFG-Zero" in row)
            assert rule.excess == ("counts from 1" in row)
            assert rule.to_zero == ("down to 0" in row)
            assert (rule.threshold > 0) == ("up to" in row)


def test_it_tells_what_cannot_be_had() -> None:
    """Each line of the log is found on the page by its own words."""
    rows = dict(classes("What cannot be had"))
    for name, rule in SIMPLETUNER.items():
        assert not rule.differs or f"`{rule.differs}`" in rows[name]
    for words in (
        "no skip-layer guidance",
        "no clip_skip",
        "no guidance_rescale",
        "no true guidance",
    ):
        assert f"`{words}`" in PAGE
    assert "`another complex_human_instruction`" in rows["SanaPipeline"]
