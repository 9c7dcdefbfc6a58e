"""The state directory: may we write there, is it local, is there space, does a daemon hold it."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clipwatch.doctor.findings import Finding, fail, ok, size, warn
from clipwatch.doctor.output import newest_of
from clipwatch.domain.names import run_id
from clipwatch.domain.retention import GB
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.kit.errors import JournalError
from clipwatch.kit.filesystems import LOCAL, file_system
from clipwatch.kit.ownfiles import open_own
from clipwatch.layouts.claims import claims_in
from clipwatch.layouts.files import NotReadable
from clipwatch.loop.recognising import recognise
from clipwatch.results.view import moved
from clipwatch.settings import Settings
from clipwatch.settings.parts import Evaluating

CHECK = "state directory"

REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "lustre", "ceph", "9p", "afs", "gpfs", "beegfs"})
"""Where SQLite's log cannot be shared between processes; FUSE counts as well."""

LEAST = 64 * 2**20
"""Bytes that the log and the scores of a run take at most; all else is images and copies."""

_ALL_IMAGES = 100


@dataclass(frozen=True, slots=True)
class State:
    """A state directory as it is, or as it would be.

    Attributes:
        folder: As in the settings; may not exist yet.
        kind: The file system, "" if unknown.
        unwritable: What of ours may not be written, None if all may.
        free, needed: Bytes; `needed` is what a run may take with the present settings.
    """

    folder: Path
    kind: str
    unwritable: Path | None
    free: int
    needed: int


def look(settings: Settings) -> list[Finding]:
    """Look at the state directory and at the lock of the run in it; neither is made nor taken."""
    folder = settings.paths.state_dir
    stands = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    lock = lock_file(settings)
    # a folder must let us make files in it, a file must let us write
    ours = ((stands, os.W_OK | os.X_OK), (log_file(folder), os.W_OK), (lock, os.W_OK))
    closed = (path for path, how in ours if os.path.lexists(path) and not os.access(path, how))
    state = State(
        folder=folder,
        kind=file_system(Path(os.path.realpath(stands))),
        unwritable=next(closed, None) if stands.is_dir() else stands,
        free=shutil.disk_usage(stands).free,
        needed=needed(settings),
    )
    return [assess(state), assess_holder(lock.stem, holder(lock), recognised(settings))]


def recognised(settings: Settings) -> str:
    """Say which run of the log the output directory is, where that is not plain; else ""."""
    log, output_dir = log_file(settings.paths.state_dir), settings.paths.named
    try:
        found = recognise(log, output_dir, settings.watching.layout)
        run = read_state(log).get(found.name)
    except JournalError:  # of which its own check tells
        return ""
    if found.copy_of:
        return f"it holds weights of {found.copy_of}, whose own directory is still there"
    return moved(run) if run and run.output_dir != str(output_dir) else ""


def run_name(settings: Settings) -> str:
    """Return what the run is, or would be, called in the log."""
    log, output_dir = log_file(settings.paths.state_dir), settings.paths.named
    try:
        return recognise(log, output_dir, settings.watching.layout).name
    except JournalError:  # of which its own check tells
        return run_id(output_dir)


def lock_file(settings: Settings) -> Path:
    """Return the file that the daemon of a run locks."""
    return settings.paths.state_dir / f"{run_name(settings)}.lock"


def assess(state: State) -> Finding:
    """Say whether a run can keep its state there."""
    if state.unwritable is not None:
        advice = "make it writable for the user of clipwatch, or choose another with --state-dir"
        return fail(CHECK, f"{state.unwritable} cannot be written", advice)
    kind = state.kind or "unknown file system"
    where = f"{state.folder} ({kind}, {size(state.free)} free)"
    if state.kind in REMOTE or state.kind.startswith("fuse"):
        found = f"{where} is not on a local disk, where its log would be damaged"
        return fail(CHECK, found, "choose a local folder with --state-dir")
    if state.free < LEAST:
        advice = "make space, or choose another disk with --state-dir"
        return fail(CHECK, f"{where}; a run needs {size(state.needed)}", advice)
    if state.free < state.needed:
        advice = (
            "make space, keep fewer images (keep_images, keep_images_gb), or choose another disk"
        )
        return warn(CHECK, f"{where}; a run may take {size(state.needed)}", advice)
    if state.kind and state.kind not in LOCAL:
        advice = "make sure that it is a local disk, or choose one with --state-dir"
        return warn(CHECK, f"{where} is on a file system that clipwatch does not know", advice)
    return ok(CHECK, f"{where}, a run may take {size(state.needed)}")


def assess_holder(run: str, holder: str, told: str = "") -> Finding:
    """Say whether a run can be watched by one more daemon: it cannot; and what else is `told`."""
    more = f"; {told}" if told else ""
    if holder:
        advice = "leave it to that one, or stop it before you start another"
        return warn("run", f"{run} is watched already, by {holder}{more}", advice)
    return ok("run", f"{run} is watched by nobody{more}")


def holder(lock: Path) -> str:
    """Return who holds a run, "" for nobody.

    A daemon that ends in peace empties the file, so only after a kill is the lock tried at all:
    shared, and for no longer than it takes to let go of it.
    """
    try:
        with open(lock, "rb", opener=open_own) as file:
            who = file.read(200).decode(errors="replace").strip()
            if who:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    who = ""
    except OSError:  # there is none, or none for us: that is told as unwritable
        return ""
    return who if who.isprintable() else "somebody"


def needed(settings: Settings) -> int:
    """Return the bytes that a run may take: the log, kept images as if uncompressed, and copies."""
    protocol = settings.protocol
    images = len(settings.protocols) * len(protocol.prompts) * protocol.images_per_prompt
    kept = _kept(settings.evaluating) * images * protocol.width * protocol.height * 3
    if (most := settings.evaluating.keep_images_gb) is not None:
        kept = min(kept, int(most * GB))
    copies = 0
    kind = file_system(Path(os.path.realpath(settings.paths.output_dir)))
    if settings.staging.stage == "copy" or (settings.staging.stage == "auto" and kind not in LOCAL):
        with suppress(OSError, NotReadable):
            for newest in claims_in(settings.paths.output_dir, settings.watching.layouts)[:1]:
                files = newest_of(newest, protocol.weights).files
                copies = settings.staging.stage_limit * sum(file.size for file in files)
    return LEAST + kept + copies


def _kept(asked: Evaluating) -> int:
    """Return of how many evaluations the images are kept: of the newest, the best and the base."""
    if asked.keep_images < 0:
        return _ALL_IMAGES
    return asked.keep_images + 1 + asked.baseline if asked.keep_images else 0
