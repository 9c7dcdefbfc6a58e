"""What came of a session with W&B, and what an error of wandb's means for the next attempt."""

from __future__ import annotations

import base64
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from clipwatch_adapters.shared import child

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSING = re.compile(
    r"timed? ?out|deadline exceeded|canceled|did not respond|giving up|refused|reset by peer"
    r"|no such host|unreachable|temporary|not running|\bEOF\b",
    re.IGNORECASE,
)
"""In wandb's texts: what may pass. The classes of its errors do not tell (all are CommError)."""

DENIED = re.compile(
    r"denied|permission|forbidden|not (found|allowed|authorized|logged in)", re.IGNORECASE
)
"""In a GraphQL answer without an HTTP error: what somebody must mend."""

STATUS = re.compile(r"(?:error|HTTP|upload:) ([45]\d\d)")
NO_KEY = "run `wandb login`, set WANDB_API_KEY, or go without a server by WANDB_MODE=offline"
PASSING_STATUS = frozenset({408, 409, 425, 429})
LENGTH = 300
"""Characters that are kept of wandb's texts."""


class Outcome(child.Outcome, frozen=True):
    """How it went; online, the server was read and has `shown` these evaluations at `url`."""

    shown: tuple[str, ...] = ()
    url: str = ""


def explain(error: Exception, server: str, key: str) -> Outcome:
    """Say what an error means for the next attempt, in one line that never holds the API key."""
    chain = list(_chain(error))
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = " ".join(f"{error}".split()) or type(error).__name__
    if key:  # also as it goes over the wire, which a server's complaint may repeat
        sent = base64.b64encode(f"api:{key}".encode()).decode()
        text = text.replace(key, "***").replace(sent, "***")
    text = text.partition(" Consider increasing")[0][:LENGTH]
    responses = (getattr(each, "response", None) for each in chain)
    status = next((s for r in responses if (s := getattr(r, "http_status", 0))), 0)
    status = status or int((STATUS.search(text) or ("", "0"))[1])
    final = "CommError" in kinds and len(chain) == 1  # else wandb could not even ask
    denied = kinds & {"Error", "WandbApiFailedError"} and DENIED.search(text)
    rules = (
        ("No API key" in text, f"no API key for W&B at {server}", NO_KEY),
        ("ImportError" in kinds, f"W&B's package cannot be loaded ({text})", "pip install wandb"),
        (
            "UsageError" in kinds,
            f"W&B does not take these settings ({text})",
            'correct the object "wandb" of the settings',
        ),
        (
            status in PASSING_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            f"W&B at {server} cannot take it now ({text})",
            "",
        ),
        (
            status < HTTPStatus.BAD_REQUEST and PASSING.search(text),
            f"W&B at {server} does not answer ({text})",
            "",
        ),
        (
            status == HTTPStatus.UNAUTHORIZED or ("AuthenticationError" in kinds and final),
            f"W&B at {server} does not accept the API key ({text})",
            "run `wandb login --relogin` or set WANDB_API_KEY",
        ),
        (
            status >= HTTPStatus.BAD_REQUEST or final or denied,
            f"W&B at {server} refuses ({text})",
            "check base_url, entity, project and what the API key may do",
        ),
        (True, f"the W&B session failed ({text})", ""),
    )
    what, fix = next((what, fix) for holds, what, fix in rules if holds)
    return Outcome("refused", what, fix) if fix else Outcome("unavailable", what)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
