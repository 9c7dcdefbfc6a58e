"""Advice on its way to people: a webhook, and what Apprise reaches."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from clipwatch.domain.delivered import advice_id
from clipwatch.domain.events import AdviceGiven
from clipwatch.kit import secrets
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.settings import Advice

SECONDS: Final = 15.0
"""A receiver that takes longer is asked again later."""

_PASSING: Final = (408, 425, 429)
_SERVER: Final = 500


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to people, which cannot be read back: what it took once is there.

    Attributes:
        place: Tells its address apart from others, and no secret of it.
        send: Takes a run's name and an advice; raises TrackerUnavailable or TrackerRefused.
    """

    place: str
    send: Callable[[str, AdviceGiven], None]

    @property
    def lost(self) -> AbstractSet[str]:
        """Nothing can be found to be there no more."""
        return frozenset()

    def destination(self) -> str:
        """Return `place`."""
        return self.place

    def bring(self, series: Series, had: AbstractSet[str]) -> Iterator[str]:
        """Send the advice that came with the results, each as soon as the one before is taken."""
        for advice in (it for result in series.results for it in result.advice):
            if (name := advice_id(advice)) not in had:
                at = f"at {series.label}: " if series.label else ""
                self._send(series.run, replace(advice, text=at + advice.text))
                yield name

    def where(self, series: Series) -> str:  # noqa: ARG002 - as a Receiver
        """Nobody finds it there."""
        return ""

    def _send(self, run: str, advice: AdviceGiven) -> None:
        try:
            self.send(run, advice)
        except (TrackerUnavailable, TrackerRefused):
            raise
        except Exception as error:  # noqa: BLE001 - a library's, whose text may hold an address
            raise TrackerUnavailable(type(error).__name__) from None


def channels(advice: Advice) -> dict[str, Channel]:
    """Return by name each way that the settings name."""
    found: dict[str, Channel] = {}
    if advice.webhook:
        found["webhook"] = Channel(
            _told(advice.webhook), lambda run, it: post(advice.webhook, as_json(run, it))
        )
    if advice.apprise:
        place = " ".join(map(_told, advice.apprise))
        found["apprise"] = Channel(place, lambda run, it: notify(advice.apprise, run, it))
    return found


def _told(address: str) -> str:
    """Return what tells an address apart: its scheme, and a digest of what stands behind.

    Many hold a token in their path. What may be a password does not count, as a short one could be
    guessed by its digest.
    """
    scheme, _, rest = address.partition("://")
    place, _, query = rest.partition("?")
    login, _, host = place.rpartition("@")
    asked = [(key, value) for key, value in parse_qsl(query) if not secrets.named(key)]
    told = repr((login.partition(":")[0], host, asked))
    return f"{scheme}:{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def as_json(run: str, advice: AdviceGiven) -> dict[str, Any]:
    """Return the object that a webhook gets.

    `text` stands alone, as chat programs show it; `id` is the same when it is sent again.
    """
    return {
        "id": f"{run}/{advice_id(advice)}",
        "run": run,
        "step": advice.step,
        "unit": advice.unit,
        "kind": advice.kind,
        "scorer": advice.scorer,
        "text": f"{run}, {advice.unit} {advice.step}: {advice.kind}: {advice.text}",
    }


class _Stay(HTTPRedirectHandler):
    """Follows nobody: of a POST that is redirected, only a GET without its content would arrive."""

    def redirect_request(self, *_: object) -> None:
        return None


def post(address: str, content: Mapping[str, Any]) -> None:
    """Send JSON by POST; no error tells more of the address than its host.

    Raises:
        TrackerUnavailable: It was not taken, and may be another time.
        TrackerRefused: It will not be taken.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TrackerRefused("advice.webhook must be an http or https address", fix="correct it")
    body = json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "clipwatch"}
    login, at, host = parts.netloc.rpartition("@")
    if at:
        headers["Authorization"] = f"Basic {b64encode(unquote(login).encode()).decode()}"
        address = parts._replace(netloc=host).geturl()
    request = Request(address, data=body, headers=headers, method="POST")  # noqa: S310 - see above
    try:
        with build_opener(_Stay).open(request, timeout=SECONDS):
            return
    except HTTPError as error:
        error.close()
        problem = f"{parts.hostname} answered {error.code}"
        if error.code in _PASSING or error.code >= _SERVER:
            raise TrackerUnavailable(problem) from None
        raise TrackerRefused(problem, fix="correct advice.webhook") from None
    except URLError as error:
        raise TrackerUnavailable(f"{parts.hostname}: {error.reason}") from None
    except (OSError, ValueError) as error:
        raise TrackerUnavailable(f"{parts.hostname}: {type(error).__name__}") from None


def notify(addresses: tuple[str, ...], run: str, advice: AdviceGiven) -> None:
    """Send through Apprise; it says of failures only that there was one.

    Raises:
        TrackerUnavailable: Not all addresses were reached.
        TrackerRefused: Apprise is not installed, or does not know an address.
    """
    try:
        import apprise
    except ImportError:
        fix = "pip install 'clipwatch[apprise]'"
        raise TrackerRefused("advice.apprise needs a package", fix=fix) from None
    everyone = apprise.Apprise()
    for number, address in enumerate(addresses, 1):
        if not everyone.add(address):
            message = f"Apprise does not know address {number} of advice.apprise"
            raise TrackerRefused(message, fix="correct it, by Apprise's own documentation")
    title = f"clipwatch: {run}, {advice.unit} {advice.step}: {advice.kind}"
    if not everyone.notify(title=title, body=advice.text):
        raise TrackerUnavailable("Apprise could not reach everyone")
