"""Looks at the checkpoints of one output directory, and judges each."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.domain.sighting import Partial, Sighting, Unusable, Whole
from clipwatch.layouts import contents, settling, twins
from clipwatch.layouts.base import Candidate, Inspection, Listing
from clipwatch.layouts.claims import Claim, Layouts, claim_of, claims, installed
from clipwatch.layouts.files import (
    Damaged,
    NotReadable,
    NotWhole,
    Unsupported,
    content_digest,
    refusal,
    settling_for,
    sparse,
    stat,
)
from clipwatch.layouts.listing import listed
from clipwatch.layouts.lying import lying
from clipwatch.layouts.settling import Settling, Stillness
from clipwatch.layouts.unchanged import Unchanged

_WAITING = "no marker says that it is complete: it must stay unchanged for a while"
_SPARSE = "parts of its weights were never written: it must stay unchanged for longer"
_UNPRINTABLE = "its name holds characters that cannot be printed: rename the {}"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What lies where an output directory is copied from, a checkpoint at a time.

    Attributes:
        listing: As if all of it lay in the directory.
        away: Name → what is said of a checkpoint that is not here, None for nothing.
    """

    listing: Listing
    away: Mapping[str, Partial | Unusable | None] = field(default_factory=dict)


class Scanner:
    """Looks at one output directory again and again and remembers what it saw.

    Args:
        output_dir: May be missing, a symlink, or made anew at any time.
        weights: Which are looked for.
        settle_seconds: How long an unmarked checkpoint must be unchanged.
        known: What was whole before, by name: as long as its files are the same it still is.
        layouts: Those to ask, None for all that are installed.
        elsewhere: Tells what lies where the directory is copied from, None for an original.
        clock: Seconds of a clock that nobody sets, to measure how long things stay unchanged.
        wall: Seconds of the clock of file times, for what lay there before the first scan.
    """

    def __init__(
        self,
        output_dir: Path,
        *,
        weights: TrainedWeights,
        settle_seconds: float,
        known: Mapping[str, Whole] = MappingProxyType({}),
        layouts: Layouts | None = None,
        elsewhere: Callable[[], Elsewhere | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.output_dir = output_dir
        self._weights, self._settle = weights, settle_seconds
        self._layouts = installed() if layouts is None else layouts
        self._elsewhere = elsewhere
        self._away: Mapping[str, Partial | Unusable | None] = {}
        self._still = Stillness(clock, wall)
        self._digests: dict[str, tuple[int, str]] = {}
        self._looked: dict[str, Inspection] = {}
        self._wholes = dict(known)
        self._unchanged = Unchanged(clock, wall)
        self._young: set[str] = set()  # whole for so short a time that their times need not tell
        self._written_ns = 0
        self.settling = False
        """Whether the last scan saw a checkpoint that only has to stay unchanged."""
        self.folders: set[Path] = set()
        """Folders below the output directory in which the last scan saw checkpoints."""
        self.lying = ""
        """What the last scan passed over, as `lying` tells it."""

    def scan(self) -> list[Sighting]:
        """Look at every checkpoint; newest step first.

        Raises:
            FileNotFoundError: The output directory does not exist (yet).
            NotReadable: It may not be read; the text says what to do.
            ClipwatchError: A layout fails.
        """
        self.settling = False
        try:
            seen = self._elsewhere() or Elsewhere(listed(self.output_dir))
            listing, self._away = seen.listing, seen.away
            found = claims(listing, self._layouts)
            self.folders = {it.candidate.path.parent for it in found} - {self.output_dir}
            self.lying = lying(listing, found, self._layouts)
            found = [it for it in found if self._away.get(it.candidate.name, _WAITING)]
            candidates = [it.candidate for it in found]
            taken = {it.name for it in candidates}
            sightings = [self.look(claim, taken) for claim in found]
            placed = {it.name: _placed(it, self._looked.get(it.name)) for it in candidates}
            sightings = twins.apart(sightings, self._looked, placed)
        finally:
            self._still.first_look = False
        names = {sighting.name for sighting in sightings}
        self._still.keep(names)
        self._unchanged.keep(names)
        self._young &= names
        for kept in (self._digests, self._wholes, self._looked):
            for name in kept.keys() - names:
                del kept[name]
        files = (f for whole in self._wholes.values() for f in whole.weights.files)
        self._written_ns = max((file.mtime_ns for file in files), default=0)
        return sorted(sightings, key=lambda it: (-it.step, it.name))

    def look(self, claim: Claim, taken: Container[str] = ()) -> Sighting:
        """Look at one checkpoint; what cannot be printed gets a name that is not `taken`."""
        it = claim.candidate
        name, path = it.name, it.root
        verdict: Whole | Partial | Unusable
        if not name.isprintable():
            name, path, verdict = _unprintable(it, taken)
        elif told := self._away.get(name):
            verdict = told
        elif self._unchanged.same(name):
            verdict = self._wholes[name]
        else:
            verdict = self._verdict(claim)
        looked = self._looked.get(name)
        step, unit = looked.at if looked and looked.at else (it.step, it.unit)
        return Sighting(step, name, path, verdict, unit)

    def _verdict(self, claim: Claim) -> Whole | Partial | Unusable:  # noqa: PLR0911 - one an outcome
        it = claim.candidate
        try:
            found = claim.inspect(self._weights)
            self._looked[it.name] = found
            return self._whole(it, found)
        except Settling as reason:
            self.settling = True
            return Partial(str(reason))
        except Unsupported as reason:
            # the diffusers LoRA scripts save accelerate's state first and the LoRA file after it
            waiting = "nothing in it so far that can be evaluated"
            last = Unusable("unsupported", str(reason))
            return self._hopeless(it, reason.settlings, waiting, last)
        except NotWhole as reason:
            marked = "marked as complete, but " if reason.settlings == 0.0 else ""
            if not marked and not isinstance(reason, Damaged):
                return self._unfinished(it, str(reason))
            last = Unusable("unreadable", f"{marked}{reason}")
            return self._hopeless(it, max(reason.settlings, 1.0), str(reason), last)
        except NotReadable as reason:
            return Unusable("unreadable", str(reason))
        except PermissionError:
            return Unusable("unreadable", str(refusal(it.root)))
        except FileNotFoundError:
            return Partial("it is being deleted")
        except OSError as error:
            told = f"it cannot be read: {error.strerror}"
            return self._hopeless(it, 1.0, told, Unusable("unreadable", told))

    def _whole(self, candidate: Candidate, found: Inspection) -> Whole:
        """Return what is whole, or raises as `_settled`."""
        name, files = candidate.name, found.weights.files
        whole = self._wholes.get(name)
        known = whole is not None and whole.weights == found.weights
        # within one tick of a file system's clock its files can be others, and stat the same
        if known and whole and name in self._young:
            known = content_digest(candidate.root, files) == whole.digest
        if whole is None or not known:
            with settling_for(found.settlings):
                digest = self._settled(candidate, found)
            whole = self._wholes[name] = Whole(found.weights, digest)
            self._young.add(name)
        if self._unchanged.remember(candidate, files):
            self._young.discard(name)
        return whole

    def _settled(self, candidate: Candidate, found: Inspection) -> str:
        """Return the digest of weights to which nobody writes any more.

        The digest is taken twice: not every write to a mapped file tells in its times.

        Raises:
            Settling: They have to stay unchanged for some more time.
            NotWhole, Damaged, NotReadable: As `contents.check_headers`.
        """
        name, path = candidate.name, candidate.root
        weights, settlings = found.weights, found.settlings
        contents.check_headers(path, weights)
        paths = [path / file.path for file in weights.files]
        holes = [sparse(file) for file in paths] if settlings > 0.0 else []
        if any(holes):
            settlings = settling.SPARSE_SETTLINGS
        signature, changed_ns = settling.of_files(path, weights.files)
        unchanged = self._still.seconds(name, "weights", signature, changed_ns)
        over = unchanged >= settlings * self._settle
        seen, before = self._digests.get(name, (0, ""))
        if not over and (unchanged == 0.0 or seen == signature):
            raise Settling(_SPARSE if any(holes) else _WAITING)
        digest = content_digest(path, weights.files)
        self._digests[name] = (signature, digest)
        same = seen != signature or before == digest
        if not same:
            self._still.restart(name, "weights")
        if not over or not same or stat(path, paths) != weights.files:
            raise Settling(_SPARSE if any(holes) else _WAITING)
        return digest

    def _hopeless(
        self, candidate: Candidate, settlings: float, waiting: str, last: Unusable
    ) -> Partial | Unusable:
        """Something stands there that will not do; it may still be about to be written."""
        seen = settling.of_candidate(candidate)
        unchanged = self._still.seconds(candidate.name, "all", *seen)
        if unchanged >= settlings * self._settle:
            return last
        self.settling = True
        return Partial(waiting)

    def _unfinished(self, candidate: Candidate, reason: str) -> Partial | Unusable:
        """Something lacks; it is waited for while the trainer shows that it is at it."""
        signature, changed_ns = settling.of_candidate(candidate)
        superseded = self._written_ns > changed_ns
        patience = settling.OLD_SECONDS if superseded else settling.PATIENCE_SECONDS
        unchanged = self._still.seconds(candidate.name, "all", signature, changed_ns)
        if unchanged < max(patience, 6 * self._settle):
            return Partial(reason)
        return Unusable(
            "abandoned", f"never finished, and nothing in it changes any more: {reason}"
        )


def _unprintable(it: Candidate, taken: Container[str]) -> tuple[str, Path, Unusable]:
    """Return a name for it that is not `taken`, its path under that, and what is said of it."""
    name = ascii(it.name)[1:-1]
    if name in taken:
        name += f"~{hashlib.sha256(os.fsencode(it.name)).hexdigest()[:16]}"
    path = it.root if it.files else it.root.parent / name
    what = "file" if it.files else "folder"
    return name, path, Unusable("unsupported", _UNPRINTABLE.format(what))


def _placed(candidate: Candidate, looked: Inspection | None) -> bool:
    return candidate.placed or bool(looked and looked.at)


def look_once(path: Path, weights: TrainedWeights, layouts: Layouts | None = None) -> Sighting:
    """Look at one checkpoint, a folder or a file, without waiting for it to settle.

    The step is 0 when nothing tells one.
    """
    claim = claim_of(path, installed() if layouts is None else layouts)
    if claim is None:
        unknown = Unusable("unsupported", "no layout knows such a file")
        return Sighting(0, path.name, path.parent, unknown)
    return Scanner(path.parent, weights=weights, settle_seconds=0.0).look(claim)
