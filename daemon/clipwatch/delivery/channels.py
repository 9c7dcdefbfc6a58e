"""Messages on their way to people: advice and scores, to a webhook and what Apprise reaches."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from clipwatch.delivery.sheet import Sheet, sheet
from clipwatch.domain.delivered import advice_id, scored_id
from clipwatch.domain.events import AdviceGiven
from clipwatch.domain.kinds import Unit
from clipwatch.kit import secrets
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.kit.textfiles import printable
from clipwatch.results.decisions import decided, estimated
from clipwatch.results.figures import interval, number
from clipwatch.results.series import Result, Series
from clipwatch.settings import Advice

SECONDS: Final = 15.0
"""A receiver that takes longer is asked again later."""

_PASSING: Final = (408, 425, 429)
_SERVER: Final = 500


_PROMPT: Final = 100
"""Characters that a message tells of a prompt."""


@dataclass(frozen=True, slots=True)
class CheckpointScored:
    """A message that a checkpoint is scored; told as advice is."""

    evaluation: str
    step: int
    text: str
    unit: Unit = "step"
    kind: Literal["scored"] = "scored"
    scorer: str = ""


Message = AdviceGiven | CheckpointScored


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to people, which cannot be read back: what it took once is there.

    Attributes:
        place: Tells its address apart from others, and no secret of it.
        send: Takes a run's name, a message and its pictures, if it has any; raises
            TrackerUnavailable or TrackerRefused.
        scores: Whether scores are told, too.
        pictures: Whether it takes some.
    """

    place: str
    send: Callable[[str, Message, Sheet | None], None]
    scores: bool = False
    pictures: bool = False

    @property
    def lost(self) -> AbstractSet[str]:
        """Nothing can be found to be there no more."""
        return frozenset()

    @property
    def more(self) -> None:
        """Nobody can tell what else is there."""

    def destination(self) -> str:
        """Return `place`."""
        return self.place

    def bring(self, series: Series, had: AbstractSet[str]) -> Iterator[str]:
        """Send the advice that came with the results, each as soon as the one before is taken.

        Scores are told of the newest step alone: who was not reached for a while, or is new, gets
        one message.
        """
        for result in series.results:
            for advice in result.advice:
                if (name := advice_id(advice)) not in had:
                    self._send(series, result, advice)
                    yield name
        untold = [it for it in series.results if scored_id(it.evaluation) not in had]
        if self.scores and untold:
            newest = max(untold, key=lambda it: (it.step, it.seq))
            self._send(series, newest, scored(series, newest, len(untold) - 1))
            yield from (scored_id(it.evaluation) for it in untold)

    def where(self, series: Series) -> str:  # noqa: ARG002 - as a Receiver
        """Nobody finds it there."""
        return ""

    def _send(self, series: Series, result: Result, message: Message) -> None:
        at = f"at {series.label}: " if series.label else ""
        told = replace(message, text=at + message.text)
        shown = None
        if self.pictures:
            shown, about = _pictures(series, result)
            told = replace(told, text=f"{told.text}\n\n{about}")
        try:
            self.send(series.run, told, shown)
        except (TrackerUnavailable, TrackerRefused):
            raise
        except Exception as error:  # noqa: BLE001 - a library's, whose text may hold an address
            raise TrackerUnavailable(type(error).__name__) from None


def scored(series: Series, result: Result, others: int) -> CheckpointScored:
    """Return what is told of a result, and that others were scored before it was told."""
    clip, digits = result.clip, series.digits("")
    text = f"{result.checkpoint}: mean {number(clip.mean, digits)}"
    if clip.low is not None and clip.high is not None:
        text += f" (95 % interval {interval(clip.low, clip.high, digits)})"
    compared = (("the base model", result.against_base), ("the best before", result.against_best))
    for what, it in compared:
        if it is not None:
            side = "under" if it.delta < 0 else "over"
            text += f", {number(abs(it.delta), digits)} {side} {what}"
    if result.estimate:
        text += f"; {estimated(result.estimate, clip.n)}"
    if found := result.decision:
        other = found.reference
        text += f"; {decided(found, other.run or other.evaluation.partition('/')[0], digits)}"
    if others:
        text += f"; {others} more scored since the last message"
    return CheckpointScored(result.evaluation, result.step, text, series.unit)


def _pictures(series: Series, result: Result) -> tuple[Sheet | None, str]:
    """Return the sheet of a result with what it shows; none with the reason."""
    try:
        shown = sheet(series, result)
    except Exception as error:  # noqa: BLE001 - a message does not wait for its pictures
        return None, f"No pictures: they could not be made ({type(error).__name__})."
    if shown is None:
        return None, "No pictures: they are not kept any more (keep_images)."
    texts = [printable(" ".join(it.text.split())) for it in shown.prompts]
    short = (it if len(it) <= _PROMPT else f"{it[:_PROMPT]}…" for it in texts)
    return shown, "\n".join(f"{place}  {it}" for place, it in enumerate(short, 1))


def channels(advice: Advice) -> dict[str, Channel]:
    """Return by name each way that the settings name."""
    found: dict[str, Channel] = {}
    scores = advice.every_checkpoint
    if advice.webhook:
        found["webhook"] = Channel(
            _told(advice.webhook),
            lambda run, it, _: post(advice.webhook, as_json(run, it)),
            scores,
        )
    if advice.apprise:
        place = " ".join(map(_told, advice.apprise))
        found["apprise"] = Channel(
            place,
            lambda run, it, shown: notify(advice.apprise, run, it, shown),
            scores,
            advice.pictures,
        )
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


def as_json(run: str, advice: Message) -> dict[str, Any]:
    """Return the object that a webhook gets.

    `text` stands alone, as chat programs show it; `id` is the same when it is sent again.
    """
    if isinstance(advice, CheckpointScored):
        name = scored_id(advice.evaluation)
    else:
        name = advice_id(advice)
    return {
        "id": f"{run}/{name}",
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


def notify(
    addresses: tuple[str, ...], run: str, advice: Message, shown: Sheet | None = None
) -> None:
    """Send through Apprise; it says of failures only that there was one.

    An address that does not take the pictures gets the message without.

    Raises:
        TrackerUnavailable: Not all addresses were reached.
        TrackerRefused: Apprise is not installed, or does not know an address.
    """
    try:
        import apprise
    except ImportError:
        fix = "pip install 'clipwatch[apprise]'"
        raise TrackerRefused("advice.apprise needs a package", fix=fix) from None
    everyone = [apprise.Apprise() for _ in addresses]
    for number_, (one, address) in enumerate(zip(everyone, addresses, strict=True), 1):
        if not one.add(address):
            message = f"Apprise does not know address {number_} of advice.apprise"
            raise TrackerRefused(message, fix="correct it, by Apprise's own documentation")
    title, body = f"clipwatch: {run}, {advice.unit} {advice.step}: {advice.kind}", advice.text
    with TemporaryDirectory() as folder:
        picture = Path(folder) / f"clipwatch-{advice.unit}-{advice.step}.png"
        if shown:
            picture.write_bytes(shown.png)

        def reached(one: apprise.Apprise) -> bool:
            if shown and one.notify(body, title, attach=str(picture)):
                return True
            return bool(one.notify(body, title))

        if [one for one in everyone if not reached(one)]:
            raise TrackerUnavailable("Apprise could not reach everyone")
