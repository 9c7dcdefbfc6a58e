"""What `clipwatch serve` answers: the page, newer data, images, and pairs to be voted on."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args
from urllib.parse import parse_qs

import msgspec

from clipwatch.domain.kinds import Choice, Question
from clipwatch.domain.names import votes_stream
from clipwatch.domain.votes import Voted
from clipwatch.domain.voting import Pair, next_pair
from clipwatch.journal import Journal
from clipwatch.kit.decoding import decoder
from clipwatch.kit.errors import ClipwatchError, Conflict
from clipwatch.kit.ownfiles import read_own
from clipwatch.report.live import NOTHING, Ballot, Live, Made
from clipwatch.results.figures import plural
from clipwatch.results.reading import read_votes
from clipwatch.service.web import Asked, Page, told

KINDS: Final = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}
"""What an image is by its name; no other file is given away."""

OFFERED: Final = 1000
"""So many pairs that were asked may still be answered."""

JSON: Final = "application/json"
HEADER: Final = "X-Clipwatch-Token"
OURS: Final = {"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer"}
"""Other pages of the browser are given nothing."""


@dataclass(frozen=True, slots=True)
class _Offered:
    run: str
    pair: Pair
    files: Mapping[str, Path]


class _Vote(msgspec.Struct, forbid_unknown_fields=True):
    pair: str
    choice: Choice


class Site:
    """Answers from any thread, by what is made.

    Args:
        live: Keeps the page.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self._offered: dict[str, _Offered] = {}
        self._lock, self._writing = threading.Lock(), threading.Lock()

    def get(self, asked: Asked) -> Page:
        """Answer what reads."""
        made = self._live.made
        if made is None:
            return told(503, "the page is being made")
        below = asked.path[1:].partition("/")[0]
        known = {"/": _whole, "/data": _news, "/favicon.ico": _nothing, "/pair": self._pair}
        inside = {"images": _file, "pairs": self._side}
        answer = known.get(asked.path) or inside.get(below)
        return answer(made, asked) if answer else told(404, "the page is at /")

    def post(self, asked: Asked) -> Page:
        """Take a vote of our own page's; nothing else is ever written."""
        if problem := self._foreign(asked):
            return told(403, problem)
        if asked.path != "/vote":
            return told(404, "votes go to /vote")
        try:
            vote: _Vote = decoder(_Vote).decode(asked.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return told(400, str(error))
        with self._lock:
            offered = self._offered.get(vote.pair)
        if offered is None:
            return told(410, "this pair was asked too long ago: close this view and open it again")
        try:
            self._cast(offered.run, offered.pair.voted(vote.choice))
        except ClipwatchError as error:
            return told(503, f"this vote is not kept: {error}")
        return Page(204, JSON, b"", OURS)

    def _foreign(self, asked: Asked) -> str:
        """Return why a request is not our own page's, "" if it is."""
        host, origin = asked.headers.get("Host", ""), asked.headers.get("Origin", "")
        if not host or origin != f"http://{host}":
            return "votes are taken from this page alone"
        if asked.headers.get_content_type() != JSON:
            return f"votes are {JSON}"
        token = asked.headers.get(HEADER, "").encode()
        if not secrets.compare_digest(token, self._live.token.encode()):
            return "clipwatch serve was started anew: load the page again"
        return ""

    def _side(self, _: Made, asked: Asked) -> Page:
        """Give an image of a pair that was asked."""
        *_before, id_, side = asked.path.split("/")
        with self._lock:
            offered = self._offered.get(id_)
        return _image(offered.files.get(side) if offered else None)

    def _pair(self, made: Made, asked: Asked) -> Page:
        """Ask the next one."""
        query = parse_qs(asked.query)
        run = query.get("run", [""])[0]
        question = next((it for it in get_args(Question) if it in query.get("question", ())), None)
        ballot = made.ballots.get(run)
        if ballot is None or question is None:
            return told(404, "no such run or question")
        try:
            with Journal(self._live.log, read_only=True) as journal:
                votes = read_votes(journal, run)
        except ClipwatchError as error:
            return told(503, str(error))
        among = query.get("of") or [*ballot.images]
        there = {it: ballot.images[it].keys() for it in among if it in ballot.images}
        pair = next_pair(there, votes, question, run)
        count = plural(sum(it.question == question for it in votes), "vote")
        if pair is None:
            why = "no two of these have images that were not voted on"
            return _json({"pair": None, "votes": count, "why": why})
        self._offer(run, pair, ballot)
        return _json({"pair": pair.id, "votes": count, "prompt": ballot.prompts[pair.prompt_id]})

    def _offer(self, run: str, pair: Pair, ballot: Ballot) -> None:
        image = pair.prompt_id, pair.index
        sides = {"left": pair.left, "right": pair.right}
        files = {side: ballot.images[it][image] for side, it in sides.items()}
        with self._lock:
            self._offered[pair.id] = _Offered(run, pair, files)
            while len(self._offered) > OFFERED:
                del self._offered[next(iter(self._offered))]

    def _cast(self, run: str, vote: Voted) -> None:
        """Write a vote down, once."""
        stream = votes_stream(run)
        if not self._live.log.exists():  # a new one would be made
            raise ClipwatchError(f"there is no log in {self._live.log.parent} any more")
        with self._writing, Journal(self._live.log) as journal:
            while True:
                known = read_votes(journal, run)
                if any(it.pair == vote.pair for it in known):
                    return
                try:
                    journal.append(run, stream, len(known), [vote])
                except Conflict:  # another clipwatch serve wrote just now
                    continue
                return


def _whole(made: Made, _: Asked) -> Page:
    policy = f"{made.policy}; frame-ancestors 'none'"
    headers = {**OURS, "Content-Security-Policy": policy, "X-Frame-Options": "DENY"}
    return Page(200, "text/html; charset=utf-8", made.page, headers)


def _news(made: Made, asked: Asked) -> Page:
    if not made.version or asked.query == f"after={made.version}":
        return Page(204, JSON, b"", OURS)
    return Page(200, JSON, made.data, OURS)


def _nothing(_: Made, __: Asked) -> Page:
    return Page(204, "image/x-icon", b"")


def _file(made: Made, asked: Asked) -> Page:
    return _image(made.images.get(asked.path[1:]))


def _image(path: Path | None) -> Page:
    kind = KINDS.get(path.suffix.lower()) if path else None
    try:
        data = read_own(path) if path and kind else None
    except OSError:  # not kept any more
        data = None
    if data is None or kind is None:
        return told(404, "there is no such image")
    lasting = {"Cache-Control": "private, max-age=600", "Content-Security-Policy": NOTHING}
    return Page(200, kind, data, OURS | lasting)


def _json(value: object) -> Page:
    return Page(200, JSON, msgspec.json.encode(value), OURS)
