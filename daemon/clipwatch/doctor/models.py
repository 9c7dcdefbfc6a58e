"""The base model and the scorer: whole in a folder or in the Hub's cache, or to be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from clipwatch.doctor.findings import Finding, fail, ok, size
from clipwatch.domain.protocol import EvaluationProtocol, Part, ScorerSpec
from clipwatch.kit.hub import hub_address, unreachable
from clipwatch.layouts.files import NotReadable, NotWhole
from clipwatch.layouts.header import read_header
from clipwatch.models.files import (
    INDEX,
    Unfit,
    part_files,
    pipeline_files,
    weights_of,
)
from clipwatch.models.pictures import images_in
from clipwatch.models.places import places, scorer_places
from clipwatch.models.scorers import folder_of, kind_of
from clipwatch.settings.derived import FIRST

FETCH = "run `clipwatch fetch` where there is a network"

Files = Callable[[Path], list[Path]]


def base(protocol: EvaluationProtocol) -> Finding:
    """Look for the base model."""
    revision = protocol.base_revision

    def files(folder: Path) -> list[Path]:
        return base_files(folder, protocol)

    roots = places(protocol.base_model, revision)
    return _judge("base model", protocol.base_model, roots, files, INDEX, revision)


def parts(protocol: EvaluationProtocol) -> list[Finding]:
    """Look for the parts that are not the base model's own."""
    return [_part(part) for part in protocol.parts]


def _part(part: Part) -> Finding:
    def files(folder: Path) -> list[Path]:
        return _whole(part_files(folder, part.variant))

    roots = [root / part.subfolder for root in places(part.model, part.revision)]
    head = f"{part.subfolder}/config.json".lstrip("/")
    return _judge(part.name, part.model, roots, files, head, part.revision)


def scorers(protocol: EvaluationProtocol) -> list[Finding]:
    """Look for what the scorers load, and for the images that belong to some."""
    folders = {it.name or FIRST: folder_of(it) for it in protocol.scorers}
    images = [_images(name, folder) for name, folder in folders.items() if folder]
    return [*map(_scorer, protocol.scorers), *images]


def _images(name: str, folder: Path) -> Finding:
    try:
        found = images_in(folder)
    except NotReadable as error:
        return fail("images", f"{name}: {error.problem}", error.fix)
    except (OSError, Unfit) as error:
        return fail("images", f"{name}: {error}", "name a folder of images")
    return ok("images", f"{name}: {len(found)} in {folder}")


def _scorer(scorer: ScorerSpec) -> Finding:
    files = kind_of(scorer.kind).files
    if files is None:
        return ok("scorer", f"{scorer} (loads no files)")

    def whole(folder: Path) -> list[Path]:
        return _whole(files(folder))

    roots = scorer_places(scorer.model, scorer.revision)
    return _judge("scorer", scorer.model, roots, whole, "config.json", scorer.revision)


def base_files(folder: Path, protocol: EvaluationProtocol) -> list[Path]:
    """Return the weight files of the base pipeline, all of them whole.

    Raises:
        Unfit, NotWhole, NotReadable: It is none, or not all of it is there.
    """
    instead = [part.name for part in protocol.parts]
    found = pipeline_files(folder, protocol.base_variant, instead)
    return _whole(chain(*found.values()))


def _whole(files: Iterable[Path]) -> list[Path]:
    """Return the weight files among these, whose headers are good."""
    weights = weights_of([*files])
    for file in weights:
        read_header(file)
    return weights


def _judge(
    check: str, name: str, places: Sequence[Path], files: Files, head: str, revision: str
) -> Finding:
    reason = ""
    for folder in places:
        try:
            total = sum(file.stat().st_size for file in files(folder))
        except NotReadable as error:
            return fail(check, error.problem, error.fix)
        except (OSError, Unfit, NotWhole, ValueError) as error:
            reason = reason or f"{folder}: {error}"
        else:
            where = "local" if name == str(folder) else f"in the cache, {folder}"
            return ok(check, f"{name} ({where}, weights of {size(total)})")
    if Path(name).is_absolute():
        kind = "diffusers model" if head != "config.json" else "model of a type that can score"
        advice = f"name a whole {kind}"
        return fail(check, reason or f"{name} is gone", advice)
    missing = unreachable(name, head, revision)
    if missing is None:
        begun = f" ({reason})" if reason else ""
        found = f"{name} is not whole here{begun}, and can be fetched from {hub_address()}"
        return ok(check, found)
    if reason:
        return fail(check, reason, FETCH)
    return fail(check, f"{name}: {missing.what}", missing.advice)
