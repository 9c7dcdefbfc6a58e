"""Where results go in MLflow: what the settings, our environment and the trainer's folder say."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from clipwatch.kit.secrets import masked
from clipwatch_adapters.shared import child
from clipwatch_adapters.shared.numbers import FORM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clipwatch.delivery.trackers import Target
    from clipwatch.results.series import Series
    from clipwatch_adapters.mlflow.outcome import Outcome

SQLITE = "sqlite:///"

OWN = (
    r"MLFLOW_(TRACKING_(USERNAME|PASSWORD|TOKEN|AUTH|AWS_SIGV4|INSECURE_TLS|(CLIENT|SERVER)_CERT_PATH)"
    r"|ENABLE_WORKSPACES|WORKSPACE|ALLOW_FILE_STORE|S3_\w+)"
    r"|AWS_\w+|AZURE_\w+|GOOGLE_APPLICATION_CREDENTIALS|DATABRICKS_\w+"
)
"""What a session needs of our environment to reach the server and where it keeps artifacts."""

SERIES = "clipwatch.series"
"""The tag by which a run of a series is known."""


@dataclass(frozen=True, slots=True)
class Destination:
    """All that decides where series go.

    Attributes:
        uri: MLflow's tracking URI; local paths in it are absolute.
        experiment: Its experiment's name.
        run_id: The trainer's run as a person or our environment names it, "" if none does.
        asked: Whether a person did: then it must be there.
        run_name: What the trainer calls its run.
        dirs: What the trainer may call its output directory, as it is and as it was.
        working_dir: The trainer's.
    """

    uri: str = field(repr=False)  # a password may be in it
    experiment: str
    run_id: str
    asked: bool
    run_name: str
    dirs: tuple[str, ...]
    working_dir: Path

    @classmethod
    def of(cls, target: Target) -> Destination:
        """Read it from options, then our environment, then as accelerate and MLflow would."""

        def option(name: str) -> str:
            return target.options.get(name) or os.environ.get(f"MLFLOW_{name.upper()}", "")

        named = target.options.get("experiment") or os.environ.get("MLFLOW_EXPERIMENT_NAME", "")
        return cls(
            uri=absolute(option("tracking_uri") or usual(target.working_dir), target.working_dir),
            experiment=named or target.project,
            run_id=option("run_id"),
            asked=bool(target.options.get("run_id")),
            run_name=target.run_name,
            dirs=tuple(dict.fromkeys(map(str, (target.first_dir, target.output_dir)))),
            working_dir=target.working_dir,
        )

    @property
    def served(self) -> bool:
        """Whether a server is asked that has a page."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def local(self) -> bool:
        """Whether it is a file or folder of this machine."""
        return self.uri.startswith((SQLITE, "file:"))

    def told(self) -> str:
        """Tell it on a line, without a secret."""
        beside = self.run_id or self.run_name
        return f"{masked(self.uri)}, {self.experiment}, beside {beside}, form {FORM}"

    def identity(self, series: Series) -> str:
        """Return what tells the series from all others of the server, for any log of the run.

        The run's path when it began and its name are the first half; the protocol is the second,
        with the form, as numbers cannot be renamed.
        """
        return f"cw-{_digest(self.dirs[0], series.run)}-{_digest(series.digest, str(FORM))}"

    def where(self, series: Series, found: Outcome) -> str:
        """Return the address of a run, as far as MLflow can be given one before it made the run."""
        if not self.served:
            run = found.run or f"{self.run_name} / {series.name}"
            return f"{masked(self.uri)}, experiment {self.experiment}, run {run}"
        address = child.LOGIN.sub(b"://", self.uri.encode()).decode()
        page = f"{address.rstrip('/')}/#/experiments"
        if not found.experiment_id:
            return f"{page}?searchFilter={quote(self.experiment)}"
        runs = f"{page}/{found.experiment_id}/runs"
        if found.run:
            return f"{runs}/{found.run}"
        return f"{runs}?searchFilter={quote(f'tags.`{SERIES}` = {self.identity(series)!r}')}"

    def environment(self, seconds: float) -> dict[str, str]:
        """Return the environment of a session that lasts so long."""
        return {
            **child.environment(os.environ, OWN),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
            "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(seconds / 4))),
            "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
            "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": str(max(1, round(seconds / 4))),
            "MLFLOW_LOGGING_LEVEL": "ERROR",
        }


def usual(working_dir: Path) -> str:
    """Return where MLflow keeps runs that nobody named a place for: of old in a folder."""
    folder = working_dir / "mlruns"
    try:
        old = any(it.name.isdigit() and (it / "meta.yaml").exists() for it in folder.iterdir())
    except OSError:
        old = False
    return folder.as_uri() if old else f"{SQLITE}mlflow.db"


def absolute(uri: str, working_dir: Path) -> str:
    """Return a URI with a whole path: a session works elsewhere than the trainer."""
    if uri.startswith(SQLITE):
        return f"{SQLITE}{working_dir / uri.removeprefix(SQLITE)}"
    if "://" in uri or uri.startswith(("file:", "databricks", "uc")):
        return uri
    return (working_dir / uri).as_uri()


def secrets(uri: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return what no text may hold, also as it goes over the wire, which an answer may repeat."""
    own = urlsplit(uri)
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    user, password, token = (environ.get(name, "") for name in names)
    logins = [(user, password), (unquote(own.username or ""), unquote(own.password or ""))]
    sent = [base64.b64encode(f"{one}:{other}".encode()).decode() for one, other in logins if other]
    return tuple(filter(None, (token, *sent, *(other for _, other in logins))))


def _digest(*facts: str) -> str:
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]
