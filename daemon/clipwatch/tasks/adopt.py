"""What a person says where no file can: that an output directory is a run's of the log."""

from __future__ import annotations

from clipwatch.domain.events import OutputDirMoved
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import Projection
from clipwatch.kit.errors import ClipwatchError
from clipwatch.results.named import run_named
from clipwatch.service.lock import exclusive
from clipwatch.settings import Settings


def adopt(settings: Settings, beginning: str) -> str:
    """Write down that a run goes on in the settings' output directory; return its name.

    Args:
        settings: Of the output directory, and of the log.
        beginning: Of the run's name.

    Raises:
        ClipwatchError: No such run is known, or several are; or a daemon watches it.
    """
    state_dir, output_dir = settings.paths.state_dir, str(settings.paths.named)
    log = log_file(state_dir)
    if not log.exists():
        raise ClipwatchError(f"there is no log in {state_dir}", fix="name its folder, --state-dir")
    with Journal(log) as journal:
        projection = Projection(journal)
        run = run_named(projection.state, beginning)
        with exclusive(state_dir, run.name):
            if run.output_dir != output_dir:
                projection.record(run.name, f"run/{run.name}", OutputDirMoved(output_dir))
    return run.name
