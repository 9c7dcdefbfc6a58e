"""Looks at everything that a run needs, and changes nothing: what `clipwatch doctor` prints."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from clipwatch import prompts
from clipwatch.doctor import costs, device, models, output, publishing, state_dir, surroundings
from clipwatch.doctor.examine import PATIENCE_SECONDS, Check, Late, asked, examine
from clipwatch.doctor.findings import Finding, fail, ok, warn
from clipwatch.kit.errors import SettingsError
from clipwatch.settings import Settings

__all__ = ["Finding", "checks", "configuration", "examine"]


def configuration(load: Callable[[], Settings]) -> tuple[Finding, Settings | None]:
    """Load the settings; return what there is to say of them, and None when they are wrong."""
    try:
        settings = asked(load, PATIENCE_SECONDS)()
    except Late as late:
        return fail("config", str(late), "see whether its file system hangs"), None
    except SettingsError as error:
        fix = error.fix or "correct it, see docs/settings.md"
        return fail("config", error.problem, fix), None
    if settings.remarks:
        found = "; ".join(settings.remarks)
        return warn("config", found, "correct it, or leave it if it is meant"), settings
    return ok("config", str(settings.config)), settings


def checks(settings: Settings | None) -> list[Check]:
    """Return what is looked at; without settings only what needs none."""
    general = [Check("versions", surroundings.versions)]
    if settings is None:
        return [Check("inotify", surroundings.inotify), *general]
    protocol, named = settings.protocol, settings.publishing.trackers
    return [
        Check("prompts", lambda: [judge_prompts(len(protocol.prompts))]),
        Check(output.CHECK, partial(output.look, settings)),
        Check(state_dir.CHECK, partial(state_dir.look, settings)),
        Check(costs.PICTURES, lambda: [costs.pictures(settings)]),
        Check(costs.CHECK, partial(costs.look, settings)),
        Check("base model", lambda: [models.base(protocol), *models.parts(protocol)]),
        Check("scorer", lambda: models.scorers(protocol)),
        Check(device.CHECK, partial(device.look, settings), device.TORCH_SECONDS + 10),
        *(
            []
            if settings.publishing.trackers
            else [Check("trackers", lambda: [publishing.none(settings)])]
        ),
        *(
            Check(f"tracker {name}", partial(publishing.look, settings, name), publishing.SECONDS)
            for name in named
        ),
        Check("clock", partial(surroundings.clock, settings)),
        Check("inotify", partial(surroundings.inotify, settings)),
        *general,
    ]


def judge_prompts(count: int) -> Finding:
    """Say whether so many prompts tell checkpoints apart."""
    if count < prompts.FEW:
        advice = "name more, better hundreds: see README.md, What the numbers mean"
        return warn("prompts", f"{count}, whose mean says little about a model", advice)
    return ok("prompts", str(count))
