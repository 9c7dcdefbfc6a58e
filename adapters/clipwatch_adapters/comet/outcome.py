"""What an error of Comet's package means for the next attempt."""

from __future__ import annotations

import os
import re
from http import HTTPStatus

from clipwatch_adapters.shared.sessions import Outcome, kinds, one_line

NO_KEY = (
    "set COMET_API_KEY, run `comet login`, or go without a server by "
    '"clipwatch": {"comet_ml": {"mode": "offline"}}'
)
PASSING_STATUS = frozenset({408, 409, 425, 429})
STATUS = re.compile(r"status(?: code)?:? ([45]\d\d)")


def explain(error: Exception, key: str) -> Outcome:
    """Say what an error means, in one line that holds no key."""
    its, text = kinds(error), one_line(error, key, os.environ.get("COMET_API_KEY", ""))
    server = one_line(Exception(os.environ.get("COMET_URL_OVERRIDE") or "its server"))
    response = getattr(error, "response", None)
    status = int(getattr(response, "status_code", 0) or (STATUS.search(text) or (0, 0))[1])
    passing = status in PASSING_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    rules = (
        (
            "ImportError" in its,
            f"Comet's package cannot be loaded ({text})",
            "pip install 'clipwatch[comet]'",
        ),
        ("NotShownError" in its, f"Comet at {server} does not show what it was sent so far", ""),
        (passing, f"Comet at {server} cannot take it now ({text})", ""),
        (
            its & {"InvalidAPIKey", "Unauthorized", "AuthenticationError"}
            or status == HTTPStatus.UNAUTHORIZED,
            f"Comet at {server} does not accept the API key ({text})",
            "correct COMET_API_KEY or ~/.comet.config",
        ),
        (
            its & _REFUSALS or status >= HTTPStatus.BAD_REQUEST,
            f"Comet at {server} refuses ({text})",
            "check workspace, project and what the API key may do",
        ),
        (
            its & {"ConnectionError", "Timeout", "RequestException", "HTTPError"},
            f"Comet at {server} does not answer ({text})",
            "",
        ),
        (True, f"the Comet session failed ({text})", ""),
    )
    what, fix = next((what, fix) for holds, what, fix in rules if holds)
    return Outcome("refused", what, fix) if fix else Outcome("unavailable", what)


_REFUSALS = frozenset(
    {
        *("InvalidWorkspace", "ServiceAccountWorkspaceRestricted", "ProjectNameEmpty"),
        *("ProjectNameIsTooLong", "ViewOnlyAccessException", "PaymentRequired"),
        *("MaxExperimentNumberReachedException", "ProjectConsideredLLM", "InvalidExperimentMode"),
        *("SDKVersionIsTooOldException", "BackendVersionTooOld"),
    }
)
