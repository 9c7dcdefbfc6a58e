"""What came of a session with MLflow, and what an error means for the next attempt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus

from clipwatch.kit.secrets import masked
from clipwatch_adapters.shared import child

LENGTH = 300
"""Characters that are kept of MLflow's texts."""

PASSING_STATUS = frozenset({408, 409, 425, 429, 499})

MENDABLE = re.compile(
    r"readonly|read-only|unable to open|not a database|malformed|permission denied", re.IGNORECASE
)
"""In what SQLite says: what does not pass by itself."""


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
    text = _line(error, secrets)
    status = _status(error)
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
        ("out-of-date database schema" in text, f"{at} is of another version", "mlflow db upgrade"),
        (
            "maintenance mode" in text,
            f"{at} is a folder, which MLflow no longer writes to",
            "name a server or a database in tracking_uri, or set MLFLOW_ALLOW_FILE_STORE=true",
        ),
        (
            "valid JSON" in text or (status == HTTPStatus.NOT_FOUND and "endpoint" in text),
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
        ("OperationalError" in kinds and MENDABLE.search(text), f"{at} ({text})", "mend its file"),
        ("DatabaseError" in kinds and MENDABLE.search(text), f"{at} ({text})", "mend its file"),
        (
            {"InvalidUrlException", "InvalidSchema", "MissingSchema"} & kinds,
            f"{at}: that is no address ({text})",
            "correct tracking_uri",
        ),
        (
            status in PASSING_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            f"{at} {'does not answer' if 'API request' in text else 'cannot take it now'} ({text})",
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


def _line(error: Exception, secrets: Sequence[str]) -> str:
    text = " ".join(f"{error}".split()) or type(error).__name__
    for secret in secrets:
        text = text.replace(secret, "***")
    text = child.LOGIN.sub(b"://", text.encode()).decode()
    return text.partition(" (Background on this error")[0].partition(" [SQL:")[0][:LENGTH]


def _status(error: Exception) -> int:
    told = getattr(error, "get_http_status_code", None)
    response = getattr(error, "response", None)
    return int(told() if told else getattr(response, "status_code", 0) or 0)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
