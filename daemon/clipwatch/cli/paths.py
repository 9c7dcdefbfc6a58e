"""What `start` and `rank` are given: a configuration, a folder of checkpoints, or some in it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipwatch.cli.options import CONFIGS, chosen_config, only_given
from clipwatch.kit.addresses import address
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.textfiles import plain
from clipwatch.results.differences import listed

if TYPE_CHECKING:
    from clipwatch.settings import Settings

_PATH = "PATH"
"""What a value from there is called."""

_CONFIGS = ("config.json", "clipwatch.json")
"""Which make a folder that of a configuration."""

_OF_ONE = "CLIPWATCH_OUTPUT_DIR"

_FORMS = (".json", ".toml", ".env", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Meant:
    """What is to be read, and what is said over it.

    Attributes:
        config: The configuration, None for none.
        output_dir: The folder of checkpoints, None where the configuration names it.
        only: The names in it that are meant, none for all.
        address: What is named instead of a folder, "" for none.
    """

    config: Path | None
    output_dir: Path | None = None
    only: tuple[str, ...] = ()
    address: str = ""

    def notes(self, cwd: Path) -> list[str]:
        """Return what is there and is not read."""
        if not (self.output_dir or self.address) or self.config is not None:
            return []
        here = [name for name in CONFIGS if (cwd / name).is_file()]
        return [f"{name} is not read: name it with --config if it is meant" for name in here[:1]]

    def elsewhere(self, command: str, written: Path) -> str:
        """Say what to type where the checkpoints lie below the folder that was named; else "".

        Args:
            command: That was called.
            written: The folder, as it was named.
        """
        from clipwatch.layouts.unordered import elsewhere

        found = elsewhere(self.output_dir) if self.output_dir and not self.only else []
        if self.output_dir is None or not found:
            return ""
        names = [str(written / path.relative_to(self.output_dir)) for path, _ in found]
        each = [f"{name} ({number})" for name, (_, number) in zip(names, found, strict=True)]
        one = f"clipwatch {command} {shlex.quote(names[0])}"
        return plain(f"{written} holds no checkpoint itself; they lie in {listed(each)}: {one}")

    def reader(
        self,
        flags: Mapping[str, Any],
        cwd: Path,
        *,
        ranked: bool = False,
        working_dir: Path | None = None,
    ) -> Callable[[], Settings]:
        """Return what reads the settings, again and again, and refuses trackers that are not here.

        Args:
            flags: As the command has them, None for what is not given.
            cwd: The directory of the call, absolute.
            ranked: All checkpoints are compared, and not only a training's watched.
            working_dir: The trainer's where nobody sets it, None for the directory of the call.
        """
        from clipwatch.delivery import trackers
        from clipwatch.layouts.claims import FILES
        from clipwatch.layouts.unordered import unordered
        from clipwatch.settings import load
        from clipwatch.settings.values import Given

        over, unless = only_given(dict(flags)), dict[str, Given]()
        if self.address:
            over["output_dir"] = Given(self.address, _PATH, _PATH)
        if self.output_dir is not None:
            over["output_dir"] = Given(str(self.output_dir), _PATH, _PATH)
            if unordered(self.output_dir, self.only, ranked=ranked):
                unless["layout"] = Given(FILES, "no training orders these files", "layout")
        if working_dir is not None:
            unless["working_dir"] = Given(str(working_dir), "--runs", "working_dir")
        if ranked:
            unless["report_to"] = Given("none", "rank publishes where it is asked to", "report_to")
        if self.only:
            over["layout_only"] = Given(self.only, _PATH, _PATH)
        environ = dict(os.environ)

        def read() -> Settings:
            settings = load(self.config, flags=over, unless=unless, environ=environ, cwd=cwd)
            for tracker in settings.publishing.trackers:
                trackers.load(tracker)
            return settings

        return read


@dataclass(frozen=True, slots=True)
class Called:
    """Which configurations a call of `start` names: some, or all below a folder."""

    configs: tuple[Path, ...] = ()
    runs: Path | None = None

    @property
    def several(self) -> bool:
        """Whether it may be more than one run."""
        return self.runs is not None or len(self.configs) > 1

    @property
    def config(self) -> Path | None:
        """The only configuration, None for none."""
        return next(iter(self.configs), None)


def called(
    paths: Sequence[Path],
    configs: Sequence[Path],
    runs: Path | None,
    output_dir: str | None,
    environ: Mapping[str, str],
) -> Called:
    """Say which configurations a call names; what is typed goes before the environment.

    Args:
        paths: PATH, as written.
        configs: Each --config.
        runs: --runs.
        output_dir: --output-dir.
        environ: The environment variables.

    Raises:
        click.UsageError: They cannot be had together.
    """
    if runs is not None and configs:
        raise click.UsageError("--runs finds the configs, and --config names them: not both")
    if runs is None and not configs and not paths:
        runs = Path(environ["CLIPWATCH_RUNS"]) if environ.get("CLIPWATCH_RUNS") else None
    if runs is None and not configs and environ.get("CLIPWATCH_CONFIG"):
        configs = (Path(environ["CLIPWATCH_CONFIG"]),)
    found = Called(tuple(configs), runs)
    named = {"PATH": paths, "--output-dir": output_dir, _OF_ONE: environ.get(_OF_ONE)}
    one = next((name for name, given in named.items() if given), "")
    if found.several and one:
        raise click.UsageError(f"{one} names one run, and --config or --runs name several")
    return found


def meant(
    paths: Sequence[Path],
    config: Path | None,
    output_dir: str | None,
    cwd: Path,
    *,
    there: bool = False,
) -> Meant:
    """Say what a call means by its paths; without any it means a configuration.

    Args:
        paths: As they are written.
        config: --config.
        output_dir: --output-dir.
        cwd: The directory of the call, absolute.
        there: Whether a folder must be there; one that is watched may come later.

    Raises:
        SettingsError: They contradict each other, or one is not there.
    """
    if not paths:
        return Meant(chosen_config(config))
    from clipwatch.settings.places import below

    whole = [below(cwd, str(it)) for it in paths]
    remote = next(filter(None, map(address, paths)), "")
    if remote and len(whole) > 1:
        raise SettingsError(f"{remote} is not the only path", fix="name one address alone")
    if len(whole) == 1 and _is_config(whole[0]):
        if config is not None:
            raise SettingsError(
                f"{paths[0]} and --config {config} are two configurations", fix="name one"
            )
        return Meant(whole[0])
    if output_dir is not None:
        raise SettingsError(
            f"{paths[0]} and --output-dir {output_dir} both name checkpoints",
            fix="leave one of them out",
        )
    if remote:
        return Meant(config, address=remote)
    if len(whole) == 1 and (whole[0].is_dir() or _may_come(whole[0], there=there)):
        return Meant(config, whole[0])
    for path, written in zip(whole, paths, strict=True):
        if not os.path.lexists(path):
            raise SettingsError(f"there is no {plain(str(written))!r}", fix="correct the path")
    folders = list(dict.fromkeys(it.parent for it in whole))
    if len(folders) > 1:
        raise SettingsError(
            f"{paths[0]} and others lie in {len(folders)} folders",
            fix="name files of one folder, or that folder",
        )
    beside = folders[0] / _CONFIGS[1]
    if config is None and beside.is_file():
        config = beside
    return Meant(config, folders[0], tuple(it.name for it in whole))


def _may_come(path: Path, *, there: bool) -> bool:
    """Whether a path can be that of a folder that a training makes later."""
    return not (there or path.suffix or os.path.lexists(path))


def _is_config(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in _CONFIGS)
    return path.suffix in _FORMS
