"""Write docs/simpletuner.md from the tables and answers that the program itself uses.

    python scripts/simpletuner_docs.py [--output FILE]

Run it after a change of answers.toml or of a table.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from clipwatch.settings.simpletuner import answers
from clipwatch.settings.simpletuner.answers import FOLLOWED, NONE, REFUSED, TOLD, Answer
from clipwatch.settings.simpletuner.families import REFINER
from clipwatch.settings.simpletuner.rules import STOCK
from clipwatch.settings.simpletuner.tables import (
    Family,
    every_option,
    pipelines,
    table,
    versions,
)

FILE = Path(__file__).parents[1] / "docs" / "simpletuner.md"

HEAD = """# SimpleTuner, key by key

Made by `scripts/simpletuner_docs.py`, from the option registries and model classes of SimpleTuner
{versions} and from clipwatch's own answers to them. Do not edit it.

Every option of the trainer has one of four answers:

- [followed](#followed): it is read, by the trainer's own rule.
- [told](#told): it changes the trainer's validation pictures and is not followed. Where it is set
  to something else than its default, `clipwatch start`, `doctor` and `--print-settings` say so in
  one line, with file and line.
- [refused](#refused): the model that is trained cannot be scored. The start ends with exit code 2.
- [without effect](#without-effect) on validation pictures.

A key that no version knows is pointed out. Whose defaults hold for [families](#families) says
`simpletuner_version`, else the SimpleTuner that is installed (`simpletuner_path`, clipwatch's own
environment, or the command `simpletuner` on PATH), else the newest of these versions.
`clipwatch start --print-settings` shows what was followed, and where each value came from.

How the pictures of each family are made: [families](families.md). How clipwatch takes the place of
SimpleTuner's own validation: [trainers](trainers.md#in-place-of-simpletuners-own-validation).

With `seeds: trainer` our pictures are the trainer's: in twelve families they differ from those
that its own validation made, on a CPU with tiny models, by half a level of 255 on average
([measured](../tests/data/simpletuner/README.md)).
"""


def document() -> str:
    """Return the page."""
    known = " and ".join(versions())
    parts = [HEAD.format(versions=known), *_followed(), *_told(), *_refused(), *_none()]
    return "\n".join([*parts, *_families()]) + "\n"


def _of(kind: str) -> Iterator[tuple[str, Answer]]:
    for name, answer in sorted(answers.answers().items()):
        if answer.kind == kind:
            yield name, answer


def _names(name: str) -> str:
    aliases = every_option()[name].get("aliases", ())
    return ", ".join(f"`{it}`" for it in (name, *aliases))


def _default(name: str) -> str:
    default = every_option()[name].get("default")
    if default in (None, ""):
        return ""
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return "" if text.startswith("sha256:") else f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _followed() -> Iterator[str]:
    yield "## Followed\n\n| key | how | SimpleTuner's default |\n|---|---|---|"
    for name, answer in _of(FOLLOWED):
        yield f"| {_names(name)} | {_cell(answer.text)} | {_default(name)} |"
    yield ""


def _told() -> Iterator[str]:
    yield "## Told\n\n| key | the line says | where |\n|---|---|---|"
    for name, answer in _of(TOLD):
        yield f"| {_names(name)} | {_cell(answer.text)} | {_where(answer)} |"
    yield ""
    yield "And of a family, whatever is set:\n"
    for family, text in sorted(answers.families().items()):
        yield f"- `{family}`: {text}"
    yield ""


def _where(answer: Answer) -> str:
    families = ", ".join(f"`{it}`" for it in answer.families)
    values = ", ".join(f"`{it}`" for it in answer.values)
    return "; ".join(filter(None, (families, values)))


def _refused() -> Iterator[str]:
    yield "## Refused\n\n| key | because it | where |\n|---|---|---|"
    for name, answer in _of(REFUSED):
        yield f"| {_names(name)} | {_cell(answer.text)} | {_where(answer)} |"
    yield ""


def _none() -> Iterator[str]:
    yield "## Without effect\n"
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, answer in _of(NONE):
        reasons[answer.text].append(_names(name))
    for reason in sorted(reasons, key=str.casefold):
        yield f"- {reason}: {', '.join(reasons[reason])}"
    yield ""


def _families() -> Iterator[str]:
    newest = table(versions()[-1])
    version, exported = pipelines()
    yield "## Families\n"
    yield f"Of SimpleTuner {newest.version}, with the pipelines of diffusers {version}.\n"
    yield "| family | flavours, the default first | sampler of validation | in earlier versions |"
    yield "|---|---|---|---|"
    refused: dict[str, list[str]] = defaultdict(list)
    for name in sorted(newest.families):
        family = Family(name, newest.families[name])
        usual = family.flavour(family.default or next(iter(family.flavours)))
        spelt = ", ".join(f"`{it}`" for it in family.known["spellings"])
        if family.modality != "image":
            refused["sound" if family.modality == "audio" else "video"].append(spelt)
        elif name == "stable_cascade":
            refused["a prior, which makes no pixels"].append(spelt)
        elif usual is not None and usual.pipeline not in exported:
            refused["a pipeline that diffusers does not have"].append(f"{spelt} ({usual.pipeline})")
        else:
            yield f"| {spelt} | {_flavours(family)} | {_sampler(family)} | {_earlier(family)} |"
    yield ""
    yield "Not scored:\n"
    for reason in sorted(refused):
        yield f"- {reason}: {', '.join(refused[reason])}"


def _flavours(family: Family) -> str:
    names = sorted(family.flavours, key=lambda it: (it != family.default, it))
    starts = [
        it
        for it in names
        if (known := family.flavour(it)) and (known.edits or it.startswith(REFINER))
    ]
    rest = ", ".join(f"`{it}`" for it in names if it not in starts)
    from_pictures = ", ".join(f"`{it}`" for it in starts)
    return f"{rest}; refused, as they start from pictures: {from_pictures}" if starts else rest


def _sampler(family: Family) -> str:
    usual = family.known["scheduler"]
    if family.known["special_scheduler"]:
        return "the pipeline's own, whatever is named"
    if usual and usual not in STOCK:
        return f"`{usual}`, which diffusers lacks: the pipeline's own"
    return f"`{STOCK[usual]}`" if usual else "the pipeline's own"


def _earlier(family: Family) -> str:
    found = []
    for version in reversed(versions()[:-1]):
        earlier = table(version).family(family.name)
        if earlier is None:
            found.append(f"not in {version}")
        elif earlier.default != family.default:
            found.append(f"`{earlier.default}` is the default of {version}")
    return "; ".join(found)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=FILE)
    parser.parse_args().output.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
