"""What surrounds a run: the clock, the kernel's limits, and the versions of what is installed."""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from clipwatch.doctor.findings import Finding, fail, ok, warn
from clipwatch.layouts.claims import claims_in
from clipwatch.layouts.files import NotReadable
from clipwatch.settings import Settings

FIRST_YEAR = 2026
"""No clock is right that says an earlier one."""

AHEAD_SECONDS = 5.0
"""Files may be this much younger than our clock says, by rounding and by the network's delay."""

SHOWN = ("torch", "diffusers", "transformers", "peft", "tensorboard", "wandb")


# Clock --------------------------------------------------------------------------------------------


def clock(settings: Settings) -> list[Finding]:
    """Compare our clock with the one that dates files in the output directory."""
    newest = 0.0
    with suppress(OSError, NotReadable):
        newest = settings.paths.output_dir.stat().st_mtime
        for claim in claims_in(settings.paths.output_dir, settings.watching.layouts)[:1]:
            entries = os.scandir(claim.candidate.root)
            newest = max([newest, *(entry.stat().st_mtime for entry in entries)])
    return [judge_clock(time.time(), newest)]


def judge_clock(now: float, newest: float) -> Finding:
    """Say whether the time is likely; `newest` is when a file was last written, both in seconds."""
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    year = time.gmtime(now).tm_year
    if year < FIRST_YEAR:
        found = f"it says {told}: no server's certificate is valid then"
        return fail("clock", found, "set the clock (timedatectl set-ntp true)")
    if newest - now > AHEAD_SECONDS:
        found = f"{told}, and the newest checkpoint is from {newest - now:.0f} s later"
        advice = "let both machines, that of the files and this one, follow NTP"
        return warn("clock", found, advice)
    return ok("clock", told)


# inotify ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inotify:
    """The kernel's limits for our user, and what our user's processes take of them."""

    max_instances: int
    max_watches: int
    instances: int
    watches: int


def inotify(settings: Settings | None = None) -> list[Finding]:
    """Look at the limits of file-system events (Linux); nothing where there are none."""
    if settings is not None and settings.watching.watch == "poll":
        return [ok("inotify", "not used: watch is poll")]
    limits = Path("/proc/sys/fs/inotify")
    try:
        most = [int((limits / f"max_user_{it}").read_text()) for it in ("instances", "watches")]
    except OSError:
        return []
    return [judge_inotify(Inotify(most[0], most[1], *_in_use(os.geteuid())))]


def judge_inotify(use: Inotify) -> Finding:
    """Say whether there is one more instance and a few more watches."""
    instances = f"{use.instances} of {use.max_instances} instances"
    watches = f"{use.watches} of {use.max_watches} watches"
    found = f"{instances}, {watches} in use by this user"
    wanted = [
        ("instances", use.max_instances, use.instances + 1),
        ("watches", use.max_watches, use.watches + 8),
    ]
    for name, most, needed in wanted:
        if needed > most:
            sysctl = f"sysctl fs.inotify.max_user_{name}={max(2 * most, 1024)}"
            advice = f"{sysctl} as root; without events clipwatch looks every rescan_seconds"
            return warn("inotify", found, advice)
    return ok("inotify", found)


def _in_use(uid: int) -> tuple[int, int]:
    """Count the inotify instances and watches of a user's processes that we may look into."""
    instances = watches = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid != uid:
                continue
            for fd in os.listdir(process / "fd"):
                with suppress(OSError):
                    if str((process / "fd" / fd).readlink()) == "anon_inode:inotify":
                        instances += 1
                        watches += (process / "fdinfo" / fd).read_text().count("inotify wd:")
    return instances, watches


# Versions -----------------------------------------------------------------------------------------


def versions() -> list[Finding]:
    """Compare what is installed with what clipwatch asks for."""
    wanted = {"python": SpecifierSet(metadata.metadata("clipwatch")["Requires-Python"])}
    for line in metadata.requires("clipwatch") or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            wanted[requirement.name] = requirement.specifier
    return [judge_versions(wanted, {name: _installed(name) for name in wanted})]


def judge_versions(wanted: dict[str, SpecifierSet], installed: dict[str, str]) -> Finding:
    """Say what is missing or too old; `installed` holds "" for what is missing."""
    wrong = {
        name: f"{name} {installed[name]} is not {specifier}"
        if installed[name]
        else f"{name} is missing"
        for name, specifier in wanted.items()
        if not installed[name] or not specifier.contains(installed[name], prereleases=True)
    }
    if "python" in wrong:
        advice = f"install clipwatch with a Python {wanted['python']}"
        return fail("versions", "; ".join(wrong.values()), advice)
    if wrong:
        packages = " ".join(f"'{name}{wanted[name]}'" for name in wrong)
        return fail("versions", "; ".join(wrong.values()), f"pip install --upgrade {packages}")
    shown = [f"{name} {installed[name]}" for name in ("python", *SHOWN) if name in installed]
    return ok("versions", ", ".join(shown))


def _installed(name: str) -> str:
    if name == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
