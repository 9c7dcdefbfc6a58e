"""What `clipwatch serve` answers over loopback: its page, images, newer data and votes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from clipwatch.cli.serve import _keep
from clipwatch.domain.events import ImageScore, ImagesScored, OutputDirChecked
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.votes import Voted
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import Projection
from clipwatch.report.live import WAITING, Live
from clipwatch.results.reading import read_votes
from clipwatch.settings.values import Address
from real_world import clipwatch, command, environment, until
from report_kit import HOSTILE, Parsed, hostile_protocol, hostile_run
from results_kit import Log
from score_tables import noisy
from web_kit import Served, ask, served

RUN = "lora-1"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log of a base and two checkpoints, with images."""
    return hostile_run(tmp_path / "state", 6, (0, 100, 200), side=16)


@pytest.fixture
def page(log: Log) -> Iterator[Served]:
    """Serve it."""
    with served(log.folder) as page:
        yield page


def votes(log: Log) -> list[Voted]:
    """Return the votes in the log."""
    with Journal(log_file(log.folder), read_only=True) as journal:
        return read_votes(journal, RUN)


def test_the_page_is_that_of_report_under_a_strict_policy(page: Served) -> None:
    """Prompts are text; it may be framed, kept and read by nobody else."""
    answer = ask(page.address, "/")
    assert (answer.code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    found = Parsed(answer.body.decode())
    prompts = found.json["data"]["curves"][0]["prompts"]
    assert [it["text"] for it in prompts[: len(HOSTILE)]] == list(HOSTILE)
    assert answer.body.decode().lower().count("</script") == found.tags.count("script")


def test_images_are_those_of_the_log_as_they_are(page: Served, log: Log) -> None:
    """Each by the address that the page has; no other path leads to a file."""
    found = Parsed(ask(page.address, "/").body.decode())
    names = [it for column in found.json["images-0"] for row in column for it in row]
    assert len(names) == 3 * 6
    for name in names:
        answer = ask(page.address, f"/images/{name}")
        assert (answer.code, answer.headers["Content-Type"]) == (200, "image/png")
        assert answer.body == (log.folder / "images" / name).read_bytes()
    (log.folder / "images" / RUN / "other.png").write_bytes(b"not of the log")
    run, *_, file = names[0].split("/")
    for path in (
        "/images/../clipwatch.db",
        "/images/%2e%2e/clipwatch.db",
        f"/images/{run}/../../clipwatch.db",
        f"/images/{run}/other.png",
        f"/images//{names[0]}",
        f"/{names[0]}",
        f"/images/{file}",
        "/clipwatch.db",
        "//etc/passwd",
    ):
        assert ask(page.address, path).code == 404, path


@pytest.mark.parametrize("name", ["../../../secret.png", "{id}/link.png", "{id}/notes.txt"])
def test_what_a_log_names_is_given_only_if_it_is_an_image_of_the_run(
    log: Log, name: str, tmp_path: Path
) -> None:
    """No path out of the folder, no link, no other file, though the log has it."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    made = hostile_protocol(6)

    def draw(id_: str, prompt: str, index: int) -> str:
        del prompt, index
        folder = log.folder / "images" / RUN / id_
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "notes.txt").write_text("secret")
        if not (folder / "link.png").is_symlink():
            (folder / "link.png").symlink_to(secret)
        return name.format(id=id_)

    log.score(RUN, 300, noisy(6, [0.0])["0"], made, draw=draw)
    with served(log.folder) as page:
        found = Parsed(ask(page.address, "/").body.decode())
        named = {it for row in found.json["images-0"][-1] for it in row}
        for it in filter(None, named):
            assert ask(page.address, f"/images/{it}").code == 404
        assert b"secret" not in ask(page.address, f"/images/{RUN}/{name}").body


def test_newer_data_is_given_when_there_is_some(page: Served, log: Log) -> None:
    """A new result is; a batch of images alone is none, and looking again makes nothing."""
    first = ask(page.address, "/data").json
    version = first["data"]["live"]["version"]
    made = page.live.made
    log.add(
        RUN,
        evaluation_stream(RUN, "unknown/a/b"),
        ImagesScored("unknown/a/b", (ImageScore("p0000", 0, 0, {"": 0.3}),)),
    )
    page.live.look()
    assert page.live.made is made
    assert ask(page.address, f"/data?after={version}").code == 204


def test_a_new_result_is_given(page: Served, log: Log) -> None:
    """With all that the page shows of it."""
    version = ask(page.address, "/data").json["data"]["live"]["version"]
    log.score(RUN, 300, noisy(6, [0.05])["0"], hostile_protocol(6))
    page.live.look()
    answer = ask(page.address, f"/data?after={version}")
    assert answer.code == 200
    [curve] = answer.json["data"]["curves"]
    assert [it["step"] for it in curve["checkpoints"]] == [0, 100, 200, 300]
    assert ask(page.address, "/").body.count(b"checkpoint-300")


def test_before_the_first_result_the_page_waits(tmp_path: Path) -> None:
    """It asks again by itself, and then has it."""
    log = Log(tmp_path / "state")
    made = hostile_protocol(6)
    log.start(RUN, made)
    with served(log.folder) as page:
        assert ask(page.address, "/").body.decode() == WAITING
        assert ask(page.address, "/data").code == 204
        log.score(RUN, 100, noisy(6, [0.0])["0"], made)
        page.live.look()
        assert b"checkpoint-100" in ask(page.address, "/").body


def test_a_vote_is_an_event(page: Served, log: Log) -> None:
    """Once, however often it is sent; the images have no name in their addresses."""
    pair = page.pair()
    assert "checkpoint" not in json.dumps(pair)
    assert "base" not in json.dumps(pair)
    sides = {it: ask(page.address, f"/pairs/{pair['pair']}/{it}") for it in ("left", "right")}
    assert page.vote(pair["pair"], "right").code == 204
    assert page.vote(pair["pair"], "left").code == 204  # as a browser may send it again
    [vote] = votes(log)
    assert (vote.pair, vote.question, vote.choice) == (pair["pair"], "follows", "right")
    for side, evaluation in (("left", vote.left), ("right", vote.right)):
        file = log.folder / "images" / RUN / evaluation / f"{vote.prompt_id}-{vote.index}.png"
        assert sides[side].body == file.read_bytes()
    assert page.pair()["pair"] != pair["pair"]


def test_every_pair_is_asked_once(page: Served, log: Log) -> None:
    """Until there is none; of a choice of checkpoints likewise."""
    for _ in range(3 * 6):
        assert page.vote(page.pair()["pair"], "neither").code == 204
    assert page.pair()["pair"] is None
    asked = {(frozenset((it.left, it.right)), it.prompt_id) for it in votes(log)}
    assert len(asked) == 3 * 6
    two = sorted({it.left for it in votes(log)})[:2]
    pair = page.pair(RUN, "better", *two)
    page.vote(pair["pair"])
    assert {votes(log)[-1].left, votes(log)[-1].right} == set(two)


def test_a_daemon_goes_on_beside_votes(page: Served, log: Log) -> None:
    """Which come between what it writes down, and change nothing of what it knows."""
    with Journal(log_file(log.folder)) as journal:
        projection = Projection(journal)
        known = projection.state[RUN]
        assert page.vote(page.pair()["pair"]).code == 204
        projection.record(RUN, RUN, OutputDirChecked("gone"))
        assert page.vote(page.pair()["pair"]).code == 204
        projection.catch_up()
        assert projection.state[RUN] == replace(known, problem="gone")
    assert len(votes(log)) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": None},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"X-Clipwatch-Token": None},
        {"X-Clipwatch-Token": "guessed \xfc"},
    ],
    ids=str,
)
def test_votes_of_other_pages_are_refused(
    page: Served, log: Log, headers: dict[str, str | None]
) -> None:
    """By where they come from, by a form's type, and without the token that they cannot read."""
    assert page.vote(page.pair()["pair"], "left", headers).code == 403
    assert votes(log) == []


def test_a_name_that_leads_here_may_not_vote(page: Served, log: Log) -> None:
    """Though its origin is its own."""
    pair = page.pair()["pair"]
    refused = page.vote(
        pair, "left", {"Host": "evil.example:80", "Origin": "http://evil.example:80"}
    )
    assert refused.code == 421
    assert votes(log) == []


def test_nothing_else_is_written(page: Served, log: Log) -> None:
    """Unknown pairs, choices, bodies, lengths and methods are refused, each with a word."""
    own = {
        "Origin": f"http://{page.address}",
        "Content-Type": "application/json",
        "X-Clipwatch-Token": page.live.token,
    }
    pair = page.pair()["pair"]
    before = log_file(log.folder).read_bytes()
    assert page.vote("0" * 24).code == 410
    assert page.vote(pair, "both").code == 400
    for body, code in ((b"", 400), (b"\xff", 400), (b'{"pair": 1}', 400), (b"x" * 20_000, 413)):
        with suppress(ConnectionError):  # who sends too much is hung up on
            assert ask(page.address, "/vote", "POST", body, own).code == code
    assert ask(page.address, "/", "POST", b"{}", own).code == 404
    assert ask(page.address, "/vote", "PUT", b"{}", own).code == 501
    assert ask(page.address, "/vote").code == 404
    assert ask(page.address, "/pair?run=other&question=follows").code == 404
    assert ask(page.address, f"/pair?run={RUN}&question=odd").code == 404
    assert votes(log) == []
    assert log_file(log.folder).read_bytes() == before


def test_a_log_that_is_gone_is_not_made_anew(page: Served, log: Log) -> None:
    """The vote is refused in a line."""
    pair = page.pair()["pair"]
    log_file(log.folder).unlink()
    assert page.vote(pair).code == 503
    assert not log_file(log.folder).exists()


@pytest.mark.thorough
def test_what_leaves_the_page_is_said_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of more than ten runs one goes for each that comes; the same sentence is said once."""
    live = Live(tmp_path, (), print)
    left_out = iter(("", "1 more can be named", "1 more can be named", "2 more can be named"))

    def look() -> float:
        live.left_out = next(left_out)
        return 0.0

    monkeypatch.setattr(live, "look", look)
    with pytest.raises(StopIteration):
        _keep(live, look())
    assert capsys.readouterr().out.splitlines() == ["1 more can be named", "2 more can be named"]


def test_the_command_serves_until_it_is_ended(log: Log) -> None:
    """It prints its address, shows a result that came later, and ends quietly with 0."""
    said = log.folder / "said"
    for number in (signal.SIGINT, signal.SIGTERM):
        with said.open("wb") as out:
            arguments = ("serve", RUN[:4], "--address", "127.0.0.1:0", "--state-dir", log.folder)
            process = subprocess.Popen(
                command(*arguments), env=environment(), stdout=out, stderr=out
            )
        try:
            until(lambda: b" shows it" in said.read_bytes())
            place = said.read_text().split("//")[1].split("/")[0]
            address = Address("127.0.0.1", int(place.split(":")[1]))
            assert ask(address, "/").code == 200
            log.score(RUN, 300 + number, noisy(6, [0.05])["0"], hostile_protocol(6))
            newest = f'"step":{300 + number}'.encode()
            until(partial(shows, address, newest))
            process.send_signal(number)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
        assert said.read_text() == f"http://{place}/ shows it; Ctrl-C ends\n"


def shows(address: Address, text: bytes) -> bool:
    """Whether the page's data has it."""
    return text in ask(address, "/data").body


@pytest.mark.thorough
def test_calls_that_are_wrong_are_one_line(log: Log, tmp_path: Path) -> None:
    """A port in use, an address of others, one that is none: 2. A log that is not there: 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for wrong, why in (
            (address, f"{address}: Address already in use: name another --address"),
            ("0.0.0.0:9465", "others could read and vote there"),
            ("9465", "must be like 127.0.0.1:9464"),
        ):
            ended = clipwatch("serve", "--address", wrong, "--state-dir", log.folder, cwd=tmp_path)
            assert (ended.returncode, ended.stdout) == (2, "")
            assert why in ended.stderr
            assert ended.stderr.count("\n") == 1
    free = ("--address", "127.0.0.1:0")
    ended = clipwatch("serve", *free, "--state-dir", tmp_path / "none", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: there is no log in ")
