"""What errors of the real wandb package mean: its own classes, with texts that it gave."""

from __future__ import annotations

from base64 import b64encode
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wandb.errors import AuthenticationError, CommError, Error, UsageError
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from clipwatch_adapters.wandb.outcome import explain
from fake_wandb import KEY


def caused(error: Exception, cause: Exception) -> Exception:
    """Return an error as if raised from another one."""
    error.__cause__ = cause
    return error


def amid(error: Exception, other: Exception) -> Exception:
    """Return an error as if raised while another one was handled."""
    error.__context__ = other
    return error


def answered(status: int, text: str = "no") -> Exception:
    """Return what wandb.Api raises for an answer with an HTTP status (0: no answer)."""
    response = SimpleNamespace(message=text, http_status=status) if status else None
    cause = WandbApiFailedError(text, response)
    return caused(CommError(text), cause)


PASSING = [
    CommError("Timed out while retrying: HTTP 409: taken\nConsider increasing ..."),
    CommError("context deadline exceeded\nwhile retrying: HTTP 429: slow down"),
    CommError("dial tcp: lookup nohost on 10.0.0.1:53: no such host"),
    CommError('Timed out while retrying: Post "http://server/graphql": EOF'),
    caused(AuthenticationError("Failed to verify"), WandbApiFailedError("did not respond in time")),
    caused(AuthenticationError("Failed to verify credentials"), answered(503)),
    WandbApiFailedError("the service process is not running."),
    caused(AuthenticationError("An error occurred"), RuntimeError("wandb-core exited with -9")),
    amid(CommError(""), ConnectionError()),
    amid(CommError("Connection lost"), amid(RuntimeError(), KeyError())),
    *(answered(status) for status in (0, 408, 409, 425, 429, 500, 502, 503, 504)),
    answered(200, "input: internal system error"),
    OSError(28, "No space left on device"),
    PermissionError(13, "Permission denied"),
    RuntimeError(),
]

LASTING = [
    (UsageError("No API key configured. Use `wandb login` to log in."), "WANDB_MODE=offline"),
    (ModuleNotFoundError("No module named 'wandb'"), "pip install wandb"),
    (UsageError("Invalid project name"), "of the settings"),
    (AuthenticationError("API key must have 40+ characters"), "wandb login --relogin"),
    (CommError("returned error 401: user is not logged in"), "wandb login --relogin"),
    (answered(401), "wandb login --relogin"),
    (CommError("run cw-1 was previously created and deleted"), "entity, project"),
    (CommError("returned error 403: timed out waiting for approval"), "API key may do"),
    (Error("Error initializing run: input: permission denied"), "API key may do"),
    (answered(200, "input: permission denied to access team/project"), "API key may do"),
    (answered(403), "API key may do"),
    (answered(404), "base_url"),
    (caused(AuthenticationError("Failed to verify credentials"), answered(404)), "base_url"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    """Time-outs, limits, conflicts and whatever is unknown are no refusal; told in one line."""
    verdict = explain(error, "https://server", KEY)
    assert verdict.kind == "unavailable"
    assert "\n" not in verdict.reason
    assert "Consider" not in verdict.reason


@pytest.mark.parametrize(("error", "advice"), LASTING, ids=repr)
def test_what_somebody_must_mend_is_refused(error: Exception, advice: str) -> None:
    """What will not pass by itself says in one line what to do."""
    verdict = explain(error, "https://server", KEY)
    assert verdict.kind == "refused"
    assert advice in verdict.fix
    assert "\n" not in verdict.reason + verdict.fix


@given(before=st.integers(0, 400), after=st.text(), known=st.booleans())
def test_no_part_of_the_key_is_told(before: int, after: str, known: bool) -> None:
    """Wherever the key stands in a text, also where the text is cut, nothing of it is left."""
    text = f"{'x' * before} {KEY}{after}"
    error = CommError(text) if known else RuntimeError(text)
    verdict = explain(error, "https://server", KEY)
    assert KEY[:8] not in verdict.reason + verdict.fix


def test_the_key_as_it_was_sent_is_not_told() -> None:
    """A proxy may say what it did not take: the header of basic authentication."""
    sent = b64encode(f"api:{KEY}".encode()).decode()
    verdict = explain(CommError(f"bad token Basic {sent}"), "https://server", KEY)
    assert "bad token Basic ***" in verdict.reason
