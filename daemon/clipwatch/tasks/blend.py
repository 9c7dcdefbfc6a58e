"""A search for an average of a run's checkpoints that is better than any of them.

Half of the prompts are searched on, the other half is looked at once: the blend that the search
ends with is scored there beside the best checkpoint, in one paired test. So whatever was tried, and
however often, has no part in that test.

What is scored is kept below `blends/` in the state directory, as parts (see `partfile`): a call
that was ended goes on, and nothing of it is a checkpoint of the run. Of blends themselves one at a
time lies on the disk, and that which was tested stays.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

from clipwatch import __version__
from clipwatch.domain.blends import FEWEST, Found, Recipe, Search, families, near
from clipwatch.domain.events import (
    CheckpointCompleted,
    ImageScore,
    ProtocolDefined,
    RunStarted,
    WeightFile,
)
from clipwatch.domain.kinds import CheckpointKind
from clipwatch.domain.merging import Shard
from clipwatch.domain.protocol import Prompt
from clipwatch.domain.state import Checkpoint, Evaluation, Run, evaluation_id
from clipwatch.domain.strengths import title
from clipwatch.journal import log_file
from clipwatch.kit.addresses import address
from clipwatch.kit.errors import CheckpointError, ClipwatchError
from clipwatch.kit.filesystems import make_private
from clipwatch.loop.console import Console
from clipwatch.loop.narration import KINDS
from clipwatch.prompts import stratified
from clipwatch.results.differences import listed
from clipwatch.results.figures import number
from clipwatch.results.named import present, run_named
from clipwatch.results.ranking import rank
from clipwatch.results.results import Results, open_results
from clipwatch.results.tables import score_table
from clipwatch.service.lock import exclusive
from clipwatch.statistics.paired import compare
from clipwatch.statistics.scale import Scale
from clipwatch.statistics.scores import Scores, common, prompt_means
from clipwatch.tasks import partfile, parts
from clipwatch.tasks.blend_outcome import Outcome, Tested
from clipwatch.tasks.blending import BLENDED, Source, blend, is_there
from clipwatch.tasks.partly import Partly

USUAL: Final = 8
"""So many times the images of one evaluation may be made where nobody says how many."""

FOLDER: Final = "blends"
"""Below the state directory, with a folder for each run."""

ON: Final = "call it again to go on"


def search(
    state_dir: Path, beginning: str, images: int | None, flags: Mapping[str, str], console: Console
) -> Outcome:
    """Search a better average of a run's checkpoints; write it, and say how good it is.

    Args:
        state_dir: Of the log, absolute; all that is written goes there.
        beginning: Of the run's name.
        images: That may be made at most, None for USUAL times an evaluation's.
        flags: Settings that go before those with which the run was watched last.
        console: Hears what is done.

    Raises:
        ClipwatchError: There are too few checkpoints, prompts or images for a search, the
            checkpoints cannot be averaged, or the evaluator failed.
    """
    with open_results(log_file(state_dir)) as results:
        run = run_named(results.state, beginning)
        world = _World.of(results, run)
    with exclusive(state_dir, run.name, doing="blended"):
        work = _Work(world, state_dir, flags, console)
        try:
            return work.through(images)
        except KeyboardInterrupt:
            raise CheckpointError("stopped", fix=ON) from None
        except OSError as error:
            reason = f"{state_dir / FOLDER} cannot be written: {error.strerror}"
            raise CheckpointError(reason, fix=ON) from error
        finally:
            work.close()


def halves(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Return prompts to search on and prompts to test on, of each category as many.

    The same prompts are parted alike for ever. Both come in an order of which every beginning
    speaks for the whole.
    """
    ordered = stratified(prompts)
    together = sorted(ordered, key=lambda it: it.category)  # else two categories would take turns
    searched = {it.id for it in together[::2]}
    return (
        [it for it in ordered if it.id in searched],
        [it for it in ordered if it.id not in searched],
    )


@dataclass(frozen=True, slots=True)
class _World:
    """What the log tells: what there is to average, and how it was scored."""

    run: Run
    best: Evaluation
    scale: Scale
    checkpoints: Mapping[str, Checkpoint]
    tables: Mapping[str, Scores]
    halves: tuple[list[Prompt], list[Prompt]]

    @classmethod
    def of(cls, results: Results, run: Run) -> _World:
        """Read it.

        Raises:
            ClipwatchError: There is too little.
        """
        if run.unit == "file":
            raise ClipwatchError(f"the files of {run.name} are no checkpoints of one training")
        ranking = rank(results, run, present(run))
        best, protocol = ranking.best, ranking.best.protocol
        own = results.scores(run, best)
        found = halves([it for it in run.protocols[protocol].prompts if it.id in own])
        if len(found[1]) < FEWEST:
            raise ClipwatchError(
                f"{best.checkpoint} was scored on {len(own)} prompts, and {2 * FEWEST} are needed:"
                " half of them to search on, half to test on"
            )
        there = sorted(_saved(run), key=lambda it: it.step)
        last = (there[-1].kind, there[-1].component) if there else None
        alike = {it.name: it for it in there if (it.kind, it.component) == last}
        if len(alike) < 2:  # noqa: PLR2004 - of one there is no average
            raise _too_few(run, len(alike))
        scored = {
            it.name: results.scores(run, run.evaluations[id_])
            for it in alike.values()
            for id_ in (evaluation_id(it, protocol),)
            if id_ in run.scored.get(protocol, ())
        }
        ids = {it.id for it in found[0]}
        tables = {name: it for name, it in scored.items() if ids <= it.keys()}
        return cls(run, best, ranking.scale, alike, {**tables, best.checkpoint: own}, found)


def _saved(run: Run) -> Iterator[Checkpoint]:
    """Yield the checkpoints that can be averaged and still lie there."""
    for it in run.checkpoints.values():
        whole = it.state == "whole" and not it.is_base and it.kind in BLENDED
        if whole and is_there(Path(it.path), it.files):
            yield it


def _too_few(run: Run, count: int) -> ClipwatchError:
    """Return what tells why so few checkpoints can be averaged, and what to do where that helps."""
    told = (
        f"{count} of the checkpoints of {run.name} can be averaged, and two are needed: LoRAs or"
        " weights in full that still lie where they were saved"
    )
    if at := address(run.output_dir):
        return ClipwatchError(
            f"{told}; what was copied from {at} is deleted when it is scored",
            fix="have them scored in a folder of this machine",
        )
    whole = [it for it in run.checkpoints.values() if it.state == "whole" and not it.is_base]
    if others := sorted({KINDS[it.kind] for it in whole if it.kind in KINDS.keys() - BLENDED}):
        return ClipwatchError(f"{told}; of {listed(others)} there are no averages")
    return ClipwatchError(told, fix="keep more of them (checkpoints_total_limit)")


class _Work:
    """One call; the evaluator is started for the first image that is to be made.

    Args:
        world: What the log tells.
        state_dir: Of the log.
        flags: Settings of the call.
        console: Hears what is done.
    """

    def __init__(
        self, world: _World, state_dir: Path, flags: Mapping[str, str], console: Console
    ) -> None:
        self._world, self._console = world, console
        self._run, self._protocol = world.run, world.run.protocols[world.best.protocol]
        self._place = state_dir / FOLDER / world.run.name
        self._trial = self._place / "trial"
        self._evaluator = Partly(world.run, self._protocol, state_dir, flags, console)
        self._told: set[tuple[Recipe, int]] = set()
        self._best = title(world.run, world.best.id)

    def close(self) -> None:
        """End the evaluator; leave nothing that is half done."""
        self._evaluator.close()
        shutil.rmtree(self._trial, ignore_errors=True)

    def through(self, images: int | None) -> Outcome:
        """Search and test."""
        world, each = self._world, self._protocol.images_per_prompt
        searched, held = world.halves
        bound = images or USUAL * len(self._protocol.prompts) * each
        budget = bound // each - len(held)
        if budget < FEWEST:
            raise ClipwatchError(
                f"{bound} images are too few",
                fix=f"{(len(held) + FEWEST) * each} at least: {len(held) * each} of them for the"
                " test",
            )
        order = list(world.checkpoints)
        singles = {
            name: _mean(self._means(table, searched))
            for name, table in world.tables.items()
            if name in world.checkpoints
        }
        top = max(singles, key=lambda it: singles[it], default="")
        looking = Search(partial(self._measure, searched), len(searched), budget)
        self._console.say(
            f"{len(order)} checkpoints of {self._run.name}; {len(searched)} prompts to search on,"
            f" {len(held)} to test on; {bound} images at most"
        )
        found = looking.run(families(order, singles), partial(near, order, top=top))
        best = self._means(world.tables[world.best.checkpoint], searched[: found.prompts])
        means, used = (_mean(best), found.mean), looking.used
        tested = None
        if found.mean > means[0]:
            tested, used = self._test(found, held), used + len(held)
        return Outcome(
            self._run, world.best, found.recipe, found.prompts, means, used * each, tested,
            world.scale,
        )  # fmt: skip

    def _test(self, found: Found, held: Sequence[Prompt]) -> Tested:
        """Score a blend beside the best on the prompts that were not searched on, and write it."""
        self._console.say(f"testing on {len(held)} other prompts: {found.recipe.how}")
        blended = score_table(self._scored(found.recipe, held))
        ids = {it.id for it in held}
        tables = common([self._world.tables[self._world.best.checkpoint], blended])
        own, other = ({id_: it[id_] for id_ in it if id_ in ids} for it in tables)
        compared = compare(self._world.best.checkpoint, own, "blend", other, self._world.scale)
        means = tuple(_mean(list(prompt_means(it).values())) for it in (own, other))
        looks = self._looks(ids)
        measured = {
            "best": self._world.best.checkpoint,
            "held_out_prompts": compared.n_prompts,
            "means": means,
            "delta": compared.delta,
            "ci": (compared.low, compared.high),
            "p": compared.p,
            "looks": looks,
        }
        written = self._write(found.recipe, measured)
        return Tested(compared, looks, (means[0], means[1]), written)

    def _looks(self, held: set[str]) -> int:
        """Return how many blends were tested on these prompts so far."""
        each = filter(None, map(partfile.read, parts.found(self._place / "scores")))
        return sum(any(it.prompt_id in held for it in part.scored) for part in each)

    def _measure(self, searched: Sequence[Prompt], recipe: Recipe, count: int) -> list[float]:
        """Return a blend's means of the first prompts; see `blends.Measure`."""
        asked = searched[:count]
        found = self._means(score_table(self._scored(recipe, asked)), asked)
        if (recipe, count) not in self._told:
            self._told.add((recipe, count))
            table = self._world.tables[self._world.best.checkpoint]
            means = (_mean(self._means(table, asked)), _mean(found))
            best, own = (number(it, self._world.scale.digits) for it in means)
            self._console.say(f"{recipe.how}: {own} on {count} prompts, {self._best} {best}")
        return found

    def _means(self, table: Scores, prompts: Sequence[Prompt]) -> list[float]:
        means = prompt_means(table)
        return [means[it.id] for it in prompts]

    def _scored(self, recipe: Recipe, prompts: Sequence[Prompt]) -> list[ImageScore]:
        """Return a blend's images of these prompts, made if they are not there yet."""
        asked = set(product([it.id for it in prompts], range(self._protocol.images_per_prompt)))
        defined = ProtocolDefined(self._protocol.digest, self._protocol)
        began = RunStarted(self._run.output_dir, "", (), {}, __version__)
        digest, kind = self._digest(recipe), self._kind
        name = f"blend-{digest[:8]}"
        made = CheckpointCompleted(0, name, str(self._trial), kind, self._component, (), digest)
        with parts.writing(self._place / "scores", Shard(), began, defined, made) as part:
            if lacking := asked - {(it.prompt_id, it.index) for it in part.scored}:
                files = self._make(recipe, {})
                self._evaluator.score(made, files, lacking, part, recipe.how)
                shutil.rmtree(self._trial)
            return [it for it in part.scored if (it.prompt_id, it.index) in asked]

    def _make(self, recipe: Recipe, measured: Mapping[str, Any]) -> tuple[WeightFile, ...]:
        """Write a blend to try it, in place of the last one; return its files."""
        shutil.rmtree(self._trial, ignore_errors=True)
        make_private(self._trial)
        known = self._world.checkpoints
        sources = [
            Source(name, Path(known[name].path), known[name].files, share)
            for name, share in recipe.shares
        ]
        told = {
            "run": self._run.name,
            "protocol": self._protocol.digest,
            "shares": dict(recipe.shares),
            **({"strength": self._protocol.adapter_strength} if self._kind == "lora" else {}),
            **measured,
        }
        return blend(sources, self._kind, self._trial, told, self._protocol.lora_alpha)

    def _write(self, recipe: Recipe, measured: Mapping[str, Any]) -> Path:
        """Write a blend that stays: all of it is in its place, or nothing."""
        files = self._make(recipe, measured)
        place = self._place / f"blend-{self._digest(recipe)[:8]}"
        shutil.rmtree(place, ignore_errors=True)
        self._trial.replace(place)
        return place / files[0].path if len(files) == 1 else place

    @property
    def _kind(self) -> CheckpointKind:
        return next(iter(self._world.checkpoints.values())).weights.kind

    @property
    def _component(self) -> str:
        return next(iter(self._world.checkpoints.values())).component

    def _digest(self, recipe: Recipe) -> str:
        """Identify a blend by what it is made of."""
        known = self._world.checkpoints
        made = [(known[name].digest, share) for name, share in recipe.shares]
        return hashlib.sha256(json.dumps(["blend 1", made]).encode()).hexdigest()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
