"""Starts a session with W&B: its environment and its key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from clipwatch.kit.errors import TrackerRefused
from clipwatch.kit.filesystems import make_private
from clipwatch_adapters.shared import child
from clipwatch_adapters.wandb.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clipwatch_adapters.wandb.session import Job

OWN = (
    r"WANDB_(BASE_URL|ENTITY|CONFIG_DIR|IDENTITY_TOKEN_FILE|INSECURE_DISABLE_SSL)"
    r"|WANDB_X_EXTRA_HTTP_HEADERS"
)
"""The names of W&B's in our environment that a session may see."""


def run(job: Job, base_url: str, log: IO[bytes] | int) -> Outcome:
    """Run a session on the job; it gets the API key by it.

    Raises:
        TrackerUnavailable, TrackerRefused: Its outcome; no outcome is the former.
    """
    settings = {
        "WANDB_BASE_URL": base_url,
        "WANDB_DATA_DIR": job.folder,
        "WANDB_CACHE_DIR": job.folder,
        "WANDB_ARTIFACT_DIR": job.folder,
        "WANDB_ERROR_REPORTING": "false",
    }
    folder = Path(job.folder)
    make_private(folder)
    own = {name: value for name, value in settings.items() if value}
    environ = environment(os.environ) | own
    return child.run("W&B", "clipwatch_adapters.wandb", job, Outcome, environ, folder, log)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a session may inherit: nothing that speaks of the trainer's own W&B run."""
    return child.environment(environ, OWN)


def api_key(options: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return the API key from options, WANDB_API_KEY or a file; "" leaves it to W&B's netrc.

    The file is WANDB_API_KEY_FILE, else the credential wandb-api-key of systemd. One that is empty
    or says "-" holds no key: a service that loads a credential must have one.

    Raises:
        TrackerRefused: WANDB_API_KEY_FILE names a file that cannot be read.
    """
    key = options.get("api_key") or environ.get("WANDB_API_KEY", "")
    if key:
        return key
    named = environ.get("WANDB_API_KEY_FILE")
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    file = Path(named) if named else Path(credentials or "", "wandb-api-key")
    if not named and not (credentials and file.exists()):
        return ""
    try:
        found = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{file}: the W&B API key cannot be read ({error})"
        raise TrackerRefused(message, fix="correct WANDB_API_KEY_FILE or the file") from error
    return "" if found == "-" else found
