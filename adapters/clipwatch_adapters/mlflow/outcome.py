"""What came of a session with MLflow, and what an error means for the next attempt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus

from clipwatch.kit.secrets import masked
from clipwatch_adapters.shared import child

LENGTH = 300
"""Characters that are kept of MLflow's texts."""

STATUS = re.compile(r"API request.*(?:error code|too many) (\d{3})")
CAUSE = re.compile(
    r"API request.*(\[Errno -?\d+\] [^'\")\]]+|timed out|Connection aborted"
    r"|Failed to resolve '[^']+'|SSLError|InvalidURL)"
)
"""In what MLflow says of a request: the status, or why there is none."""

PASSING_STATUS = frozenset({408, 409, 425, 429, 499})

MENDABLE = re.compile(
    r"readonly|read-only|unable to open|not a database|malformed|permission denied", re.IGNORECASE
)
"""In what SQLite and the system say of files: what does not pass by itself."""


class Outcome(child.Outcome, frozen=True):
    """How it went, and what the server has then.

    Attributes:
        experiment_id: "" if there is none.
        run: The trainer's run, if the series stands in it, or is to; else "".
        shown: The `seq` that are there.
    """

    experiment_id: str = ""
    run: str = ""
    shown: tuple[int, ...] = ()


class Refusal(Exception):  # noqa: N818 - says what happened
    """What somebody must mend, as we found it ourselves.

    Args:
        what: What is wrong.
        fix: What to do.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


def explain(error: Exception, uri: str, secrets: Sequence[str]) -> Outcome:
    """Say what an error means for the next attempt, in one line without a secret."""
    if isinstance(error, Refusal):
        return Outcome("refused", f"MLflow at {masked(uri)}: {error}", error.fix)
    chain = list(_chain(error))
    kinds = {kind.__name__ for each in chain for kind in type(each).__mro__}
    raw = " ".join(f"{error}".split()) or type(error).__name__
    text = _told(raw, secrets)
    status = _status(error)
    told = STATUS.search(raw) or "API request" not in raw
    lacking = next((it.name for it in chain if isinstance(it, ImportError) and it.name), "")
    at = f"MLflow at {masked(uri)}"
    rules = (
        (
            lacking == "mlflow",
            "MLflow's package cannot be loaded",
            "pip install 'clipwatch[mlflow]'",
        ),
        (
            lacking in {"sqlalchemy", "alembic"},
            f"{at}: a database needs the whole package",
            "pip install mlflow, or name a server in tracking_uri",
        ),
        (lacking, f"{at} needs the package {lacking}", f"pip install {lacking}"),
        ("out-of-date database schema" in raw, f"{at} is of another version", "mlflow db upgrade"),
        (
            "maintenance mode" in raw,
            f"{at} is a folder, which MLflow no longer writes to",
            "name a server or a database in tracking_uri, or set MLFLOW_ALLOW_FILE_STORE=true",
        ),
        (
            "valid JSON" in raw or (status == HTTPStatus.NOT_FOUND and "API request" in raw),
            f"{at}: no MLflow server answers there ({text})",
            "correct tracking_uri",
        ),
        (
            status == HTTPStatus.UNAUTHORIZED,
            f"{at} does not accept who asks ({text})",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        ),
        (
            status == HTTPStatus.FORBIDDEN,
            f"{at} refuses ({text})",
            "have its owner permit edits of the experiment",
        ),
        (
            {"OperationalError", "DatabaseError", "OSError"} & kinds and MENDABLE.search(raw),
            f"{at} ({text})",
            "let clipwatch write there, or name another in tracking_uri",
        ),
        (
            {"InvalidUrlException", "InvalidSchema", "MissingSchema"} & kinds,
            f"{at}: that is no address ({text})",
            "correct tracking_uri",
        ),
        (
            status in PASSING_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            f"{at} {'cannot take it now' if told else 'does not answer'} ({text})",
            "",
        ),
        (
            status >= HTTPStatus.BAD_REQUEST,
            f"{at} refuses ({text})",
            "check tracking_uri, experiment and run_id",
        ),
        (True, f"the session with {at} failed ({text})", ""),
    )
    what, fix = next((what, fix) for holds, what, fix in rules if holds)
    return Outcome("refused", what, fix) if fix else Outcome("unavailable", what)


def passing(error: Exception) -> bool:
    """Tell whether an error of MLflow's may pass by itself."""
    return explain(error, "", ()).kind == "unavailable"


def _told(text: str, secrets: Sequence[str]) -> str:
    """Return the gist of what MLflow's client says, without what a server sent along."""
    if found := STATUS.search(text):
        return f"HTTP {found[1]}"
    if found := CAUSE.search(text):
        return found[1]
    text = text.partition(" Response body: ")[0].partition(" (Background on this error")[0]
    text = child.LOGIN.sub(b"://", text.partition(" [SQL:")[0].encode()).decode()
    for secret in secrets:
        text = text.replace(secret, "***")
    return text[:LENGTH]


def _status(error: Exception) -> int:
    told = getattr(error, "get_http_status_code", None)
    response = getattr(error, "response", None)
    return int(told() if told else getattr(response, "status_code", 0) or 0)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
