"""Downloads what evaluations load, in a process of its own (`python -m`).

The protocol comes as JSON on standard input, a reply for each model goes as JSON, one a line, to
standard output. The evaluator's own functions find the files, so none lacks and none is too many.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clipwatch.domain.protocol import EvaluationProtocol, Part, ScorerSpec
from clipwatch.evaluator.failures import from_hub
from clipwatch.evaluator.quiet import hush
from clipwatch.executors.messages import BASE, SCORER, Coming, Fetched, FetchReply, Missed
from clipwatch.kit.hub import bytes_told, unreachable
from clipwatch.kit.processes import end_with_parent, importing
from clipwatch.models.places import cache_of
from clipwatch.models.scorers import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Fetch what the protocol on standard input names."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is for a person
    warnings.simplefilter("ignore")
    hush()
    protocol = msgspec.json.decode(sys.stdin.buffer.read(), type=EvaluationProtocol)

    def answer(reply: FetchReply) -> None:
        answers.write(msgspec.json.encode(reply) + b"\n")
        answers.flush()

    answer(_base(protocol, answer))
    for part in protocol.parts:
        answer(_part(part, answer))
    for scorer in protocol.scorers:
        if kind_of(scorer.kind).files is not None:
            answer(_scorer(scorer, answer))


def _base(protocol: EvaluationProtocol, tell: Callable[[Coming], None]) -> FetchReply:
    def locate() -> tuple[Path, str]:
        with importing():
            from clipwatch.evaluator.foreign import check_classes, check_shards
            from clipwatch.evaluator.generation import opening

        folder, commit = opening.locate(protocol)
        check_classes(opening.read_index(folder))
        check_shards(folder)
        return folder, commit

    first = ("model_index.json", protocol.base_revision)
    return _fetched(BASE, protocol.base_model, first, locate, tell)


def _part(part: Part, tell: Callable[[Coming], None]) -> FetchReply:
    def locate() -> tuple[Path, str]:
        with importing():
            from clipwatch.evaluator.foreign import check_shards
            from clipwatch.evaluator.generation import opening

        folder = opening.locate_part(part)
        check_shards(folder)
        root = folder.parents[part.subfolder.count("/")] if part.subfolder else folder
        return folder, "" if Path(part.model).is_dir() else root.name

    first = (f"{part.subfolder}/config.json".lstrip("/"), part.revision)
    return _fetched(part.name, part.model, first, locate, tell)


def _scorer(scorer: ScorerSpec, tell: Callable[[Coming], None]) -> FetchReply:
    def locate() -> tuple[Path, str]:
        from clipwatch.evaluator.foreign import check_shards
        from clipwatch.evaluator.scorers import files as scorer_files

        folder, commit = scorer_files.locate(scorer)
        check_shards(folder)
        return folder, commit

    return _fetched(SCORER, scorer.model, ("config.json", scorer.revision), locate, tell)


def _fetched(
    part: str,
    name: str,
    first: tuple[str, str],
    locate: Callable[[], tuple[Path, str]],
    tell: Callable[[Coming], None],
) -> FetchReply:
    """Bring a model here; `first` is a file that it has, and its revision, "" for the default."""
    from clipwatch.evaluator.failures import EvaluationError, failing_as

    local = Path(name).is_dir()
    what = f"{part} {name!r} cannot be fetched"
    if not local and "/" not in name:  # the Hub has few of those: a folder may be meant
        what += " (no folder of that name is here or beside the config)"
    try:
        with failing_as("model", what), from_hub(what):
            before = 0 if local else _size(cache_of(name) / "blobs")
            # asked once: the libraries would try for half a minute before they say why they cannot
            if not local and not before and (missing := unreachable(name, *first)):
                raise EvaluationError("model", f"{what}: {missing.what}", fix=missing.advice)
            if not local:
                tell(Coming(part, name))
            with bytes_told(lambda done, total: tell(Coming(part, name, done, total))):
                folder, commit = locate()
    except EvaluationError as error:
        return Missed(part, name, str(error))
    new = 0 if local else _size(cache_of(name) / "blobs") - before
    return Fetched(part, name, str(folder), commit, _size(folder), new)


def _size(folder: Path) -> int:
    """Return the bytes of all files in a folder, of links those of what they point to."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
