"""The output directory: may we read it, which events can be had, who writes there."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from clipwatch.doctor.findings import Finding, fail, ok, size, warn
from clipwatch.domain.events import WeightFile
from clipwatch.domain.kinds import TrainedWeights, WatchMode
from clipwatch.kit.filesystems import file_system
from clipwatch.layouts.claims import Claim, claims
from clipwatch.layouts.files import NotReadable, NotWhole, Unsupported, opened, refusal
from clipwatch.layouts.listing import listed
from clipwatch.layouts.lying import lying
from clipwatch.layouts.watch import events_tell
from clipwatch.mirror import Remote, Unreachable, found
from clipwatch.settings import Settings

CHECK = "output directory"


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest checkpoint: its weights, or why there are none for us.

    `odd` is a sentence, "" where there is nothing odd.
    """

    name: str
    files: tuple[WeightFile, ...] = ()
    unreadable: NotReadable | None = None
    odd: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """An output directory that is there.

    Attributes:
        folder: As in the settings.
        kind: Its file system, "" if unknown.
        watch: As in the settings.
        seconds: Between two looks.
        owner: Who it belongs to, "" for us, or for anybody where we may read everything.
        checkpoints: How many.
        newest: The one with the highest step.
        lying: What is passed over, "" for nothing.
    """

    folder: Path
    kind: str
    watch: WatchMode
    seconds: float
    owner: str
    checkpoints: int
    newest: Newest | None
    lying: str = ""


def look(settings: Settings) -> list[Finding]:
    """Look at the output directory; opens one weight file of the newest checkpoint.

    An address is asked for what lies there.
    """
    folder = settings.paths.output_dir
    if settings.paths.address:
        return [_remote(settings)]
    try:
        listing = listed(folder)
        found = claims(listing, settings.watching.layouts)
    except FileNotFoundError:
        advice = "clipwatch waits for it; correct output_dir if the training runs already"
        return [warn(CHECK, f"{folder} is not there yet", advice)]
    except NotReadable as reason:
        return [fail(CHECK, reason.problem, reason.fix)]
    if not os.access(folder, os.R_OK | os.X_OK):  # it can be listed, but nothing in it opened
        return [fail(CHECK, refusal(folder).problem, refusal(folder).fix)]
    newest = newest_of(found[0], settings.protocol.weights) if found else None
    output = Output(
        folder=folder,
        kind=file_system(Path(os.path.realpath(folder))),
        watch=settings.watching.watch,
        seconds=settings.watching.rescan_seconds,
        owner=_other_owner(folder),
        checkpoints=len(found),
        newest=newest,
        lying=lying(listing, found, settings.watching.layouts),
    )
    return [assess(output)]


def _remote(settings: Settings) -> Finding:
    paths, watching = settings.paths, settings.watching
    try:
        seen = found(paths.output_dir, Remote(paths.address).files(), watching.layouts)
    except Unreachable as error:
        if error.kind == "missing":
            advice = "clipwatch waits for it; correct output_dir if the training runs already"
            return warn(CHECK, error.problem, advice)
        fix = error.fix or "see to the network; clipwatch goes on when it is there"
        return fail(CHECK, error.problem, fix)
    where = f"{paths.address} (a look every {watching.rescan_seconds:g} s)"
    also = f" (also {seen.lying})" * bool(seen.lying)
    if not seen.entries:
        return ok(CHECK, f"{where}, no checkpoint yet{also}")
    count, newest = len(seen.entries), seen.entries[0]
    most = settings.staging.stage_limit
    copies = f"copies of {most} at once go to {paths.output_dir}"
    told = f"{count} checkpoint{'s' * (count != 1)}{also}, newest {newest.name}"
    return ok(CHECK, f"{where}, {told} ({size(newest.size)}); {copies}")


def assess(output: Output) -> Finding:
    """Say what an output directory that may be listed means for a run."""
    told_so = events_tell(output.watch, output.kind)
    way = "events" if told_so else f"a look every {output.seconds:g} s"
    where = f"{output.folder} ({output.kind or 'unknown file system'}, {way})"
    if output.newest is None:
        found = f"{where}, no checkpoint yet"
        if output.owner:
            advice = f"run clipwatch as {output.owner}: checkpoints are often for their owner only"
            return warn(CHECK, f"{found}; it belongs to {output.owner}", advice)
        if output.lying:
            advice = "see docs/layouts.md for what is known as a checkpoint"
            return warn(CHECK, f"{found}, but {output.lying}", advice)
        return ok(CHECK, found)
    newest = output.newest
    found = f"{where}, {output.checkpoints} checkpoint{'s' * (output.checkpoints != 1)}"
    found += f" (also {output.lying})" * bool(output.lying)
    if newest.unreadable:
        return fail(CHECK, f"{found}; {newest.unreadable.problem}", newest.unreadable.fix)
    if newest.odd:
        advice = "see docs/layouts.md for what can be evaluated, if it stays so"
        return warn(CHECK, f"{found}; newest {newest.name}: {newest.odd}", advice)
    return ok(CHECK, f"{found}, newest {newest.name} readable")


def newest_of(claim: Claim, weights: TrainedWeights) -> Newest:
    """Look into a checkpoint, and open one of its weight files."""
    name, root = claim.candidate.name, claim.candidate.root
    try:
        files = claim.inspect(weights).weights.files
        with opened(root / files[-1].path) as file:
            file.read(1)
    except NotReadable as reason:
        return Newest(name, unreadable=reason)
    except PermissionError:
        return Newest(name, unreadable=refusal(root))
    except (NotWhole, Unsupported) as reason:
        return Newest(name, odd=str(reason))
    return Newest(name, files)


def _other_owner(folder: Path) -> str:
    uid = folder.stat().st_uid
    if os.geteuid() in (0, uid):
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
