"""Advice reaches a webhook and Apprise: once, again after a failure, and tells no secret."""

from __future__ import annotations

import sys
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from clipwatch.delivery.channels import as_json, notify, post
from clipwatch.domain.events import AdviceGiven, AdviceNotSent, AdviceSent, Event
from clipwatch.domain.names import evaluation_stream
from clipwatch.journal import Journal
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from hook_kit import hook
from world import World, checkpoint

ADVICE = AdviceGiven("checkpoint-100/aaaaaaaa/bbbbbbbb", 100, "low", "look at the images")


def advised(world: World) -> None:
    """Have one checkpoint scored, and advice in the log."""
    checkpoint(world.output, 100)
    assert world.once() == 0
    run = world.run
    (id_,) = run.evaluations
    assert run.advice == ()
    with Journal(world.log) as journal:
        stream = evaluation_stream(run.name, id_)
        given = replace(ADVICE, evaluation=id_)
        journal.append(run.name, stream, journal.version(stream), [given])


def channel_events(world: World) -> list[Event]:
    """Return what was written down of channels."""
    kinds = (AdviceSent, AdviceNotSent)
    return [it.event for it in world.logged if isinstance(it.event, kinds)]


def test_a_webhook_gets_advice_once(tmp_path: Path) -> None:
    """JSON with run, step, kind and a text that stands alone; a restart sends nothing again."""
    with hook() as kept:
        world = World(tmp_path, **{"advice.saturated": 2, "advice.webhook": kept.address})
        advised(world)
        assert world.once() == 0
        assert world.once() == 0
        run = world.run.name
    (got,) = kept.got
    assert (got["run"], got["step"], got["kind"]) == (run, 100, "low")
    assert got["text"] == f"{run}, step 100: low: look at the images"
    assert got["id"].endswith("/low")
    assert "webhook: advice sent" in world.said


def test_a_webhook_that_is_down_is_tried_again(tmp_path: Path) -> None:
    """A 503 is written down with the next try; a restart is one. The address is told nowhere."""
    with hook() as kept:
        kept.codes[:] = [503, 204]
        world = World(tmp_path, **{"advice.saturated": 2, "advice.webhook": kept.address})
        advised(world)
        assert world.once() == 0
        (failed,) = channel_events(world)
        assert isinstance(failed, AdviceNotSent)
        assert (failed.reason, failed.attempt) == ("127.0.0.1 answered 503", 1)
        assert failed.retry_at is not None
        assert failed.retry_at > datetime.now(UTC)
        assert world.once() == 0
    assert [type(it) for it in channel_events(world)] == [AdviceNotSent, AdviceSent]
    assert len(kept.got) == 2
    assert kept.got[0] == kept.got[1]
    everything = world.log.read_bytes() + str(world.said).encode() + repr(world.settings).encode()
    assert b"T0KEN" not in everything


def test_a_webhook_that_refuses_waits_for_somebody(tmp_path: Path) -> None:
    """A 404 is not tried again by itself."""
    with hook() as kept:
        kept.codes[:] = [404]
        world = World(tmp_path, **{"advice.saturated": 2, "advice.webhook": kept.address})
        advised(world)
        assert world.once() == 0
    (failed,) = channel_events(world)
    assert isinstance(failed, AdviceNotSent)
    assert failed.retry_at is None
    assert failed.reason == "127.0.0.1 answered 404: correct advice.webhook"


def test_another_address_gets_all_advice_once(tmp_path: Path) -> None:
    """A new receiver is told what the run was advised; the old one, named again, nothing twice."""
    with hook() as old, hook() as new:
        world = World(tmp_path, **{"advice.saturated": 2, "advice.webhook": old.address})
        advised(world)
        assert world.once() == 0
        usual = world.settings
        for address in (new.address, new.address, old.address):
            world.settings = replace(usual, advice=replace(usual.advice, webhook=address))
            assert world.once() == 0
        assert len(old.got) == 1
        assert new.got == old.got
        places = [it.destination for it in channel_events(world) if isinstance(it, AdviceSent)]
    assert len(set(places)) == 2
    assert "T0KEN" not in world.log.read_bytes().decode(errors="replace")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_no_delivery(code: int) -> None:
    """What is redirected arrives nowhere as it was sent, so somebody must name the new address."""
    with hook() as kept:
        kept.codes[:] = [code]
        with pytest.raises(TrackerRefused, match=rf"^127\.0\.0\.1 answered {code}"):
            post(kept.address, {"text": "it"})
        assert kept.asked == 0


def test_a_login_in_the_address_is_sent_as_one() -> None:
    """`https://name:pass@host/` logs in; signs are written as in any address."""
    with hook() as kept:
        post(kept.address.replace("//", "//me:a%40b@"), {"text": "it"})
        assert kept.got == [{"text": "it"}]
        assert kept.login == f"Basic {b64encode(b'me:a@b').decode()}"


def test_nobody_listens() -> None:
    """A refused connection may pass; the error names the host alone."""
    with pytest.raises(TrackerUnavailable, match=r"^127\.0\.0\.1: ") as found:
        post("http://127.0.0.1:9/T0KEN", {})
    assert "T0KEN" not in str(found.value)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://x/y", "https://", "T0KEN"])
def test_only_web_addresses_are_webhooks(address: str) -> None:
    """Nothing else is opened, and the address is not repeated."""
    with pytest.raises(TrackerRefused) as found:
        post(address, {})
    assert str(found.value) == "advice.webhook must be an http or https address: correct it"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Apprise imports
def test_apprise_sends_by_its_own_addresses() -> None:
    """The real Apprise brings it to a JSON receiver; an unknown address is told by its number."""
    pytest.importorskip("apprise")
    with hook() as kept:
        address = kept.address.replace("http://", "json://")
        notify((address,), "my-run", ADVICE)
        (got,) = kept.got
        assert got["title"] == "clipwatch: my-run, step 100: low"
        assert got["message"] == ADVICE.text
        with pytest.raises(TrackerRefused, match=r"does not know address 2 of advice\.apprise"):
            notify((address, "nothing://T0KEN"), "my-run", ADVICE)
        kept.codes[:] = [500]
        with pytest.raises(TrackerUnavailable):
            notify((address,), "my-run", ADVICE)


def test_without_apprise_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with what to type."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(TrackerRefused, match=r"pip install 'clipwatch\[apprise\]'"):
        notify(("json://127.0.0.1",), "run", ADVICE)


def test_the_text_stands_alone() -> None:
    """Chat programs show `text` and nothing else."""
    assert as_json("run", ADVICE)["text"] == "run, step 100: low: look at the images"
    assert SimpleNamespace(**as_json("run", ADVICE)).id == f"run/{ADVICE.evaluation}/low"
    other = as_json("run", replace(ADVICE, scorer="siglip"))
    assert (other["scorer"], other["id"]) == ("siglip", f"run/{ADVICE.evaluation}/low/siglip")
