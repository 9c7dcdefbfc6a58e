"""A run whose report a test knows: its prompts are hostile, its images coloured squares."""

from __future__ import annotations

import html.parser
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from clipwatch.domain.events import AdviceGiven
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import EvaluationProtocol, Prompt
from clipwatch.domain.state import BASE_NAME, Checkpoint, evaluation_id
from results_kit import Log, protocol
from score_tables import noisy

HOSTILE = (
    "</script ></script><script>document.title = 'broken'</script> <!-- <script ",
    "<img src=https://example.org/x onerror=\"document.title='broken'\">",
    "قطة حمراء على كرسي أزرق",
    "a fox 🦊 & a crown 👑, {{data}} --> <!-- <b>bold</b> \u2028 end",
)
STEPS = (0, 100, 200, 300, 400)
SHIFTS = (-0.03, -0.01, 0.01, 0.011, -0.008)
CATEGORIES = ("animals", "places", "<i>odd</i>")


def hostile_protocol(prompts: int, **changes: object) -> EvaluationProtocol:
    """Return one whose first prompts are those of HOSTILE."""
    texts = [*HOSTILE, *(f"picture number {n} of a thing" for n in range(len(HOSTILE), prompts))]
    asked = tuple(
        Prompt(f"p{n:04}", text, CATEGORIES[n % len(CATEGORIES)])
        for n, text in enumerate(texts[:prompts])
    )
    return replace(protocol(prompts, **changes), prompts=asked)


def picture(path: Path, words: str, hue: int, side: int) -> None:
    """Draw a square that says what it is."""
    image = Image.effect_mandelbrot((side, side), (-2.0, -1.5, 1.0, 1.5), 30).convert("RGB")
    ImageDraw.Draw(image).rectangle((0, 0, side, side // 3), fill=(hue % 256, 90, 160))
    ImageDraw.Draw(image).text((4, 4), words, fill="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def hostile_run(
    folder: Path,
    prompts: int = 12,
    steps: Sequence[int] = STEPS,
    *,
    images: int = 1,
    side: int = 96,
    made: EvaluationProtocol | None = None,
    run: str = "lora-1",
    log: Log | None = None,
    seed: int = 0,
    begun: bool = False,
    answers: Callable[[int, str, int], dict[str, tuple[float, ...]]] | None = None,
) -> Log:
    """Return a log with a run: a base, checkpoints, advice, images in files.

    A further scorer of the protocol finds the checkpoints in the opposite order. Another seed gives
    other scores and hues. `answers` are those of scorers to the questions of (step, prompt, index).
    """
    log = log or Log(folder)
    made = made or hostile_protocol(prompts, images_per_prompt=images)
    if not begun:
        log.start(run, made)
    shifts = [SHIFTS[n % len(SHIFTS)] for n in range(len(steps))]
    tables = noisy(prompts, shifts, images, seed=seed).values()
    others = [*noisy(prompts, shifts[::-1], images, seed=seed + 1).values()]
    for place, (step, scores) in enumerate(zip(steps, tables, strict=True)):

        def draw(id_: str, prompt: str, index: int, place: int = place, step: int = step) -> str:
            name = f"{id_}/{prompt}-{index}.png"
            words = f"{step}\n{prompt}"
            picture(folder / "images" / run / name, words, 40 * place + 20 * seed, side)
            return name

        name = BASE_NAME if step == 0 else f"checkpoint-{step}"
        around = {"gpu": "0", "torch": "2.13" if step < steps[-1] else "2.14"}
        further = {it.name: others[place] for it in made.scorers[1:]}
        told = partial(answers, step) if answers else None
        log.score(
            *(run, step, scores, made),
            name=name,
            others=further,
            environment=around,
            draw=draw,
            answers=told,
        )
    last = Checkpoint(steps[-2], f"checkpoint-{steps[-2]}", "/c", "whole", digest="w" * 8)
    id_ = evaluation_id(last, made.digest)
    text = "The mean rises no more. <b>People</b> stop here."
    log.add(run, evaluation_stream(run, id_), AdviceGiven(id_, steps[-2], "plateau", text))
    return log


class Parsed(html.parser.HTMLParser):
    """Collects the elements, and the data of JSON elements, as a browser would."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = page
        self.tags: list[str] = []
        self.json: dict[str, Any] = {}
        self.policy = ""
        self._open: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what is asked of an element."""
        self.tags.append(tag)
        known = dict(attrs)
        self._open = known.get("id") if known.get("type") == "application/json" else None
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"] or ""

    def handle_data(self, data: str) -> None:
        """Keep what stands in an element of JSON."""
        if self._open:
            self.json[self._open] = json.loads(data)
            self._open = None
