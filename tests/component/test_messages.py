"""Messages of scores, and the contact sheet that Apprise takes along."""

from __future__ import annotations

import base64
import io
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipwatch.delivery.channels import Channel, channels
from clipwatch.delivery.sheet import LARGEST, PROMPTS, sheet
from clipwatch.domain.delivered import advice_id, scored_id
from clipwatch.domain.events import AdviceSent
from clipwatch.domain.protocol import Prompt
from clipwatch.prompts.subset import subset
from clipwatch.results.series import Series, highest
from clipwatch.testing.series import make_protocol, make_series, with_everything
from hook_kit import Hook, hook
from world import World, checkpoint, settings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Apprise imports


def posted(kept: Hook, key: str) -> list[Any]:
    """Return what was posted under a key, message by message."""
    return [got[key] for got in kept.got]


def test_each_score_is_told(tmp_path: Path) -> None:
    """A message a checkpoint, in words; a restart tells nothing again."""
    with hook() as kept:
        keys = {"advice.saturated": 2, "advice.webhook": kept.address}
        world = World(tmp_path, notify_every_checkpoint=True, **keys)
        for step in (100, 200):
            checkpoint(world.output, step)
            assert world.once() == 0
        assert world.once() == 0
    assert posted(kept, "kind") == ["scored", "scored"]
    assert posted(kept, "step") == [100, 200]
    first, second = posted(kept, "text")
    clip = next(iter(world.run.evaluations.values())).clip
    assert clip
    assert f"step 100: scored: checkpoint-100: mean {clip.mean:.4f}" in first
    assert second.partition(": scored: ")[2].startswith("checkpoint-200: mean ")
    sent = [it.event for it in world.logged if isinstance(it.event, AdviceSent)]
    assert [it.advice for it in sent] == [(f"{id_}/scored",) for id_ in world.run.evaluations]
    assert world.said.count("webhook: score sent") == 2


def test_who_comes_later_gets_one_message(tmp_path: Path) -> None:
    """Somebody new, or who was not reached for a while, hears of the newest step alone."""
    world = World(tmp_path)
    for step in (100, 300, 200):
        checkpoint(world.output, step)
        assert world.once() == 0
    with hook() as kept:
        keys = {"advice.saturated": 2, "advice.webhook": kept.address}
        world = World(tmp_path, notify_every_checkpoint=True, **keys)
        assert world.once() == 0
        assert world.once() == 0
    assert posted(kept, "step") == [300]
    assert "; 2 more scored since the last message" in kept.got[0]["text"]


def test_without_the_setting_scores_are_told_to_nobody(tmp_path: Path) -> None:
    """Who named a webhook for advice gets advice."""
    with hook() as kept:
        world = World(tmp_path, **{"advice.saturated": 2, "advice.webhook": kept.address})
        checkpoint(world.output, 100)
        assert world.once() == 0
    assert kept.got == []


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """Return a base and two checkpoints with pictures, the second of them the best."""
    words = ("a red horse", "\u062d\u0635\u0627\u0646", "<b>")
    prompts = [Prompt(f"p{n}", f"{words[n % 3]}\n{n}", "ab"[n % 2]) for n in range(9)]
    made = make_series(tmp_path, [0, 200, 300], protocol=make_protocol(prompts))
    return with_everything(made)


def had(series: Series, but: int) -> set[str]:
    """Return what a channel took of all results but the score of one."""
    advice = {advice_id(it) for result in series.results for it in result.advice}
    return advice | {scored_id(it.evaluation) for it in series.results if it.seq != but}


def channel(tmp_path: Path, kept: Hook, **keys: Any) -> Channel:
    """Return Apprise's channel to a receiver of JSON."""
    pytest.importorskip("apprise")
    told = {"advice.apprise": [kept.address.replace("http://", "json://")]}
    told |= {"notify_every_checkpoint": True} | keys
    return channels(settings(tmp_path, **told).advice)["apprise"]


def drawn(got: dict[str, Any]) -> Image.Image:
    """Return the picture that came with a message."""
    (attached,) = got["attachments"]
    assert attached["mimetype"] == "image/png"
    return Image.open(io.BytesIO(base64.b64decode(attached["base64"])))


def test_a_message_brings_the_contact_sheet(tmp_path: Path, series: Series) -> None:
    """A row a prompt, whose text is in the message: base, best and the new one, left to right."""
    with hook() as kept:
        way = channel(tmp_path, kept, notify_pictures=True)
        taken = list(way.bring(series, had(series, 1)))
    assert taken == [scored_id("clipwatch-1")]
    (got,) = kept.got
    assert got["title"] == "clipwatch: run, step 200: scored"
    text, _, told = got["message"].partition("\n\n")
    assert text == (
        "checkpoint-200: mean 0.2140 (95 % interval 0.2040 to 0.2240), 0.0100 over the base model, "
        "0.0100 over the best before"
    )
    shown = subset(series.protocol.prompts, PROMPTS)
    assert told.splitlines() == [
        f"{place}  {' '.join(it.text.split())}" for place, it in enumerate(shown, 1)
    ]
    assert got["attachments"][0]["filename"] == "clipwatch-step-200.png"
    image = drawn(got)
    high = image.height // PROMPTS
    for row, prompt in enumerate(shown):
        for column, seq in enumerate((0, 2, 1)):
            scores = {it.prompt_id: it.score for it in series.scores(f"clipwatch-{seq}")}
            shade = round(scores[prompt.id] * 1000) % 256
            at = (image.width * column // 3 + 30, 18 + row * high + 40)
            assert image.getpixel(at) == (shade, 255 - shade, 128)


def test_advice_brings_it_too(tmp_path: Path, series: Series) -> None:
    """What is advised is seen at once; the best is its own column once."""
    with hook() as kept:
        way = channel(tmp_path, kept, notify_pictures=True, notify_every_checkpoint=False)
        assert len(list(way.bring(series, set()))) == 2
    assert [got["title"].rpartition(": ")[2] for got in kept.got] == ["regressed", "plateau"]
    assert drawn(kept.got[0]).tobytes() == drawn(kept.got[1]).tobytes()
    best = sheet(series, series.results[2])
    assert best
    assert drawn(kept.got[0]).width > Image.open(io.BytesIO(best.png)).width


def test_a_part_is_no_best(series: Series) -> None:
    """Whatever its mean, while there is anything else: it stands beside the best."""
    *whole, top = series.results
    part = replace(top, part=True)
    assert highest(series.results) is top
    assert highest([*whole, part]) is whole[-1]
    assert highest([part]) is part
    two, three = (sheet(replace(series, results=(*whole, last)), last) for last in (top, part))
    assert two
    assert three
    wide = [Image.open(io.BytesIO(it.png)).width for it in (two, three)]
    assert wide[0] < wide[1]


def test_without_the_setting_no_picture_leaves(tmp_path: Path, series: Series) -> None:
    """Nor is anything said of pictures."""
    with hook() as kept:
        assert list(channel(tmp_path, kept).bring(series, had(series, 1)))
    assert kept.got[0]["attachments"] == []
    assert "\n" not in kept.got[0]["message"]


def test_pictures_that_are_gone_hold_up_no_message(tmp_path: Path, series: Series) -> None:
    """Those of others leave empty places; without any of its own it says why there is none."""
    whole = sheet(series, series.results[1])
    shutil.rmtree(series.images / "clipwatch-0")
    (series.images / "clipwatch-2" / "p0-0.png").write_bytes(b"no picture")
    partly = sheet(series, series.results[1])
    assert whole
    assert partly
    assert partly.prompts == whole.prompts
    assert partly.png != whole.png
    shutil.rmtree(series.images / "clipwatch-1")
    assert sheet(series, series.results[1]) is None
    with hook() as kept:
        way = channel(tmp_path, kept, notify_pictures=True)
        assert list(way.bring(series, had(series, 1)))
    assert kept.got[0]["attachments"] == []
    said = "\n\nNo pictures: they are not kept any more (keep_images)."
    assert kept.got[0]["message"].endswith(said)


def test_who_takes_no_pictures_gets_the_text(tmp_path: Path, series: Series) -> None:
    """A picture that is refused is no reason to try for ever."""
    with hook() as kept:
        kept.codes[:] = [413, 204]
        way = channel(tmp_path, kept, notify_pictures=True)
        assert list(way.bring(series, had(series, 1)))
    assert [len(got["attachments"]) for got in kept.got] == [1, 0]
    assert kept.got[0]["message"] == kept.got[1]["message"]


@pytest.mark.thorough
def test_a_sheet_is_the_same_each_time_and_small(series: Series) -> None:
    """Whatever the pictures are: of noise it is made smaller until messengers take it."""
    luck = random.Random(1)
    for path in sorted(series.images.rglob("*.png")):
        Image.frombytes("RGB", (400, 300), luck.randbytes(400 * 300 * 3)).save(path)
    first, again = (sheet(series, series.results[1]) for _ in range(2))
    assert first == again
    assert first
    assert LARGEST / 4 < len(first.png) <= LARGEST
