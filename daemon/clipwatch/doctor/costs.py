"""What a checkpoint costs, by the log and by the times of the checkpoints that lie there."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import islice

from clipwatch import pace
from clipwatch.doctor.findings import Finding, ok, warn
from clipwatch.doctor.state_dir import run_name
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.kit.errors import JournalError
from clipwatch.layouts.claims import claims_in
from clipwatch.layouts.files import NotReadable, NotWhole, Unsupported
from clipwatch.pace.measure import RECENT
from clipwatch.settings import Settings

CHECK = "cost"
PICTURES = "pictures"


def look(settings: Settings) -> list[Finding]:
    """Say how long a checkpoint takes, against how often one is saved."""
    try:
        state = read_state(log_file(settings.paths.state_dir))
    except JournalError:  # of which the state directory's check tells
        state = {}
    run = state.get(run_name(settings))
    saves = [*(pace.saves_of(run) if run else ()), *_saves(settings)]
    protocol = settings.protocol
    found = pace.pace_of(protocol, settings.as_text(), run, saves, time.time())
    size = f"{protocol.width}x{protocol.height}, {protocol.inference_steps} steps"
    images = f"{found.images} image{'s' * (found.images != 1)} of {size}"
    text = f"{images}; {pace.told(found)}"
    return [assess(found, text)]


def pictures(settings: Settings) -> Finding:
    """Say how the pictures are made, and what of it can hardly be meant."""
    protocol = settings.protocol
    if settings.doubts:
        return warn(PICTURES, "; ".join(settings.doubts), "correct it, or leave it if it is meant")
    size = f"{protocol.width}x{protocol.height}, {protocol.inference_steps} steps"
    return ok(PICTURES, f"{size}, guidance {protocol.guidance:g}")


def assess(found: pace.Pace, text: str) -> Finding:
    """Warn of checkpoints that will get no score, or theirs late, unless that was asked for."""
    behind = found.load > 1 and found.behind == "wait"
    return warn(CHECK, text, pace.remedy(found)) if behind else ok(CHECK, text)


def _saves(settings: Settings) -> list[pace.Save]:
    """Return step and time of the newest checkpoints in the output directory, if it tells steps."""
    found: list[pace.Save] = []
    with suppress(OSError, NotReadable):  # of which its own check tells
        counted = (
            it
            for it in claims_in(settings.paths.output_dir, settings.watching.layouts)
            if it.candidate.unit == "step"
        )
        for claim in islice(counted, RECENT):
            with suppress(OSError, NotReadable, NotWhole, Unsupported):
                files = claim.inspect(settings.protocol.weights).weights.files
                written = max(file.mtime_ns for file in files) / 1e9
                found.append((claim.candidate.step, written))
    return found
