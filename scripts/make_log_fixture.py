"""Write the log of the present format that every later version must be able to read.

    python scripts/make_log_fixture.py [--output FILE]

Run it again when a type of event or a field is added; never for a format that is no longer the
present one: those files were written by the code of their time, and that is their worth.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clipwatch.domain.decided import Decision, Estimate, EvaluationOutdone, Reference
from clipwatch.domain.events import (
    AdviceGiven,
    AdviceNotSent,
    AdviceSent,
    CheckpointCompleted,
    CheckpointDiscarded,
    CheckpointFound,
    DestinationChanged,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationReopened,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesDeleted,
    ImagesScored,
    ModelsChecked,
    NoLongerShown,
    OutputDirChecked,
    OutputDirMoved,
    ProtocolContinued,
    ProtocolDefined,
    Published,
    PublishFailed,
    RunStarted,
    SettingsChanged,
    WeightFile,
)
from clipwatch.domain.further import (
    EvaluationRescored,
    FurtherScore,
    ImagesRescored,
    ScorerAdded,
)
from clipwatch.domain.imported import EvaluationImported, MoreShown
from clipwatch.domain.losses import Example, LossMeasured, LossNotMeasured, LossProtocol
from clipwatch.domain.protocol import EvaluationProtocol, Input, Prompt, ScorerSpec
from clipwatch.domain.questions import Answered, Question
from clipwatch.domain.votes import Voted
from clipwatch.journal import Journal
from clipwatch.journal.logformat import FORMAT
from clipwatch.statistics import Comparison, Summary

LOGS = Path(__file__).parents[1] / "tests" / "data" / "logs"

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
RUN = "shapes-0a1b2c"
PROTOCOL = "039702a8449a2842"
FIRST = f"checkpoint-100/aaaaaaaa/{PROTOCOL[:8]}"
SECOND = f"checkpoint-200/bbbbbbbb/{PROTOCOL[:8]}"
THIRD = f"checkpoint-300/eeeeeeee/{PROTOCOL[:8]}"
FILES = (WeightFile("pytorch_lora_weights.safetensors", 1000, 1764000000000000000, 42),)
TRACKERS = ("tensorboard", "wandb")
RUN_STREAM = f"run/{RUN}"
AESTHETIC = ScorerSpec("aesthetic", "some/head", "main", "aesthetic", (("size", "large"),))


FIRST_PROTOCOL = EvaluationProtocol(
    prompts=(
        Prompt("circle", "one red circle", "shapes"),
        Prompt("naïve", "a naïve שלום", "words"),
    ),
    images_per_prompt=1,
    seed=0,
    negative_prompt="blurry",
    inference_steps=3,
    guidance=7.5,
    width=64,
    height=64,
    scheduler="",
    base_model="/base",
    base_revision="",
    base_variant="",
    weights="live",
    dtype="fp32",
    scorers=(ScorerSpec("", "openai/clip-vit-large-patch14-336"),),
    scoring_version=1,
)
KNOWN = replace(FIRST_PROTOCOL, inputs=(Input("base/vae", "d" * 16),))
WEAK = KNOWN.at(0.6)
ASKED = replace(
    KNOWN,
    prompts=(
        replace(
            KNOWN.prompts[0],
            questions=(
                Question("How many circles are in the image?", "one", "count"),
                Question("Is the circle red?", "Yes", "attribute"),
            ),
        ),
        replace(KNOWN.prompts[1], questions=(Question("Is anything written?", "Yes"),)),
    ),
    scorers=(*KNOWN.scorers, ScorerSpec("questions", "some/model", "", "questions")),
)
FOURTH = f"checkpoint-200/bbbbbbbb/{ASKED.digest[:8]}"


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the story, so many seconds after its beginning."""

    seconds: int
    stream: str
    event: Event


def _at(seconds: int) -> datetime:
    return NOON + timedelta(seconds=seconds)


STORY = (
    Told(1, RUN_STREAM, RunStarted("/out", PROTOCOL, TRACKERS, {"seed": "0"}, "0.1.0")),
    Told(
        2,
        RUN_STREAM,
        ProtocolDefined(
            PROTOCOL,
            FIRST_PROTOCOL,
        ),
    ),
    Told(3, RUN_STREAM, OutputDirChecked("/out does not exist yet")),
    Told(4, RUN_STREAM, OutputDirChecked("")),
    Told(
        5,
        RUN_STREAM,
        CheckpointFound(100, "checkpoint-100", "/out/checkpoint-100", "no weights in it yet"),
    ),
    Told(
        6,
        RUN_STREAM,
        CheckpointCompleted(
            100, "checkpoint-100", "/out/checkpoint-100", "lora", "", FILES, "a" * 16
        ),
    ),
    Told(
        6,
        RUN_STREAM,
        CheckpointCompleted(
            200, "checkpoint-200", "/out/checkpoint-200", "lora", "", FILES, "b" * 16
        ),
    ),
    Told(
        7,
        RUN_STREAM,
        CheckpointDiscarded(
            50,
            "checkpoint-50",
            "/out/checkpoint-50",
            "vanished",
            "it was deleted before it was evaluated",
        ),
    ),
    Told(
        8,
        f"evaluation/{RUN}/{FIRST}",
        EvaluationStarted(
            FIRST, "checkpoint-100", 100, "a" * 16, PROTOCOL, {"device": "cpu", "torch": "2.13.0"}
        ),
    ),
    Told(
        9,
        f"evaluation/{RUN}/{FIRST}",
        ImagesScored(FIRST, (ImageScore("circle", 0, 11, {"": 0.25}, f"{FIRST}/circle-0.png"),)),
    ),
    Told(
        10,
        f"evaluation/{RUN}/{FIRST}",
        ImagesScored(FIRST, (ImageScore("naïve", 0, 12, {"": 0.35}),)),
    ),
    Told(
        11,
        f"evaluation/{RUN}/{FIRST}",
        EvaluationCompleted(FIRST, {"": Summary(0.3, 0.25, 0.35, 0.04999999999999999, 2)}, 1, 2.5),
    ),
    Told(
        12,
        f"evaluation/{RUN}/{SECOND}",
        EvaluationStarted(SECOND, "checkpoint-200", 200, "b" * 16, PROTOCOL, {}),
    ),
    Told(
        13,
        f"evaluation/{RUN}/{SECOND}",
        EvaluationFailed(SECOND, "model", "no such folder", 1, _at(42)),
    ),
    Told(14, f"evaluation/{RUN}/{SECOND}", EvaluationFailed(SECOND, "model", "no such folder", 2)),
    Told(15, f"evaluation/{RUN}/{SECOND}", EvaluationReopened(SECOND, _at(14))),
    Told(
        16,
        f"tracker/{RUN}/tensorboard",
        Published("tensorboard", (FIRST,), "/out/logs/shapes/clipwatch"),
    ),
    Told(17, f"tracker/{RUN}/wandb", PublishFailed("wandb", "error 503", 1, _at(46))),
    Told(17, f"tracker/{RUN}/wandb", PublishFailed("wandb", "error 401", 2)),
    Told(
        18,
        RUN_STREAM,
        SettingsChanged(PROTOCOL, TRACKERS, {"seed": "0", "keep_images": "3"}, "0.1.0"),
    ),
    Told(
        19,
        RUN_STREAM,
        CheckpointCompleted(0, "base-model", "/base", "base", "", (), "c" * 16),
    ),
    Told(
        20,
        f"evaluation/{RUN}/{SECOND}",
        ImagesScored(
            SECOND,
            (
                ImageScore("circle", 0, 11, {"": 0.5, "siglip": 0.125}, None, "00ff00ff00ff00ff"),
                ImageScore("naïve", 0, 12, {"": 0.25, "siglip": 0.25}, None, "0" * 16),
            ),
        ),
    ),
    Told(
        21,
        f"evaluation/{RUN}/{SECOND}",
        EvaluationCompleted(
            evaluation=SECOND,
            scores={
                "": Summary(0.375, 0.25, 0.5, 0.125, 2, 2, 0.125, -1.0, 1.0),
                "siglip": Summary(0.1875, 0.125, 0.25, 0.0625, 2, 2, 0.0625, -0.5, 0.5),
            },
            truncated=1,
            seconds=2.5,
            phases={"load": 0.5, "generate": 1.5},
            images=2,
            batch_size=8,
            categories={"shapes": Summary(0.5, 0.5, 0.5, 0.0, 1, 1)},
            against_base=None,
            against_best=Comparison(
                a=FIRST,
                b=SECOND,
                n_prompts=2,
                delta=0.075,
                low=-2.0,
                high=2.0,
                p=1.0,
                wins=1,
                ties=0,
                losses=1,
                detectable=2.0,
                verdict="inconclusive",
            ),
            decision=Decision(Reference(FIRST), "open", 2, 0.075, -2.0, 2.0, 0.005),
            estimate=Estimate((FIRST,), {"": 2.5}, {"": 0.375}),
        ),
    ),
    Told(21, f"evaluation/{RUN}/{SECOND}", AdviceGiven(SECOND, 200, "low", "look at it")),
    Told(22, f"advice/{RUN}/webhook", AdviceNotSent("webhook", "error 503", 1, _at(52))),
    Told(23, f"advice/{RUN}/webhook", AdviceSent("webhook", (f"{SECOND}/low",))),
    Told(24, RUN_STREAM, ModelsChecked("base model '/base' vae/ is missing")),
    Told(25, RUN_STREAM, ModelsChecked("")),
    Told(26, RUN_STREAM, ProtocolContinued(PROTOCOL, "fedcba9876543210", KNOWN)),
    Told(27, f"tracker/{RUN}/tensorboard", DestinationChanged("tracker", "tensorboard", "/room")),
    Told(28, f"tracker/{RUN}/tensorboard", DestinationChanged("tracker", "tensorboard", "/out")),
    Told(
        29,
        f"tracker/{RUN}/tensorboard",
        Published(
            tracker="tensorboard",
            evaluations=(SECOND,),
            where="/out/clipwatch",
            destination="/out",
            protocol=PROTOCOL,
            again=(FIRST,),
        ),
    ),
    Told(
        30,
        f"tracker/{RUN}/wandb",
        PublishFailed("wandb", "error 503", 1, _at(60), "the server", PROTOCOL),
    ),
    Told(31, f"advice/{RUN}/webhook", DestinationChanged("channel", "webhook", "https:0123")),
    Told(
        32,
        f"advice/{RUN}/webhook",
        AdviceNotSent("webhook", "error 503", 1, _at(62), "https:0123", PROTOCOL),
    ),
    Told(
        33,
        f"advice/{RUN}/webhook",
        AdviceSent("webhook", (f"{SECOND}/low",), "https:0123", PROTOCOL),
    ),
    Told(34, RUN_STREAM, OutputDirMoved("/moved")),
    Told(
        35,
        f"tracker/{RUN}/wandb",
        NoLongerShown("wandb", (FIRST,), "the server", PROTOCOL),
    ),
    Told(36, RUN_STREAM, ProtocolDefined(WEAK.digest, WEAK, "strength 0.6")),
    Told(
        37,
        RUN_STREAM,
        SettingsChanged(PROTOCOL, TRACKERS, {"strengths": "1.0,0.6"}, "0.1.0", (WEAK.digest,)),
    ),
    Told(38, RUN_STREAM, SettingsChanged(PROTOCOL, TRACKERS, {"seed": "0"}, "0.1.0")),
    Told(39, RUN_STREAM, ScorerAdded(AESTHETIC, "0123456789abcdef", "10")),
    Told(
        40,
        f"evaluation/{RUN}/{SECOND}",
        ImagesRescored(
            SECOND, "aesthetic", (FurtherScore("circle", 0, 5.5), FurtherScore("naïve", 0, 6.5))
        ),
    ),
    Told(
        41,
        f"evaluation/{RUN}/{SECOND}",
        EvaluationRescored(
            SECOND,
            "aesthetic",
            Summary(6.0, 5.5, 6.5, 0.5, 2, 2, 0.5, 0.0, 10.0),
            {"device": "cpu", "torch": "2.13.0"},
        ),
    ),
    Told(42, f"evaluation/{RUN}/{SECOND}", ImagesDeleted(SECOND, "keep_images is 3")),
    Told(43, f"votes/{RUN}", Voted("0a1b", "follows", "circle", 0, SECOND, FIRST, "right")),
    Told(44, f"votes/{RUN}", Voted("2c3d", "better", "circle", 0, FIRST, SECOND, "neither")),
    Told(
        45,
        f"evaluation/{RUN}/{THIRD}",
        EvaluationStarted(
            *(THIRD, "checkpoint-300", 300, "e" * 16, PROTOCOL, {"device": "cuda"}),
            Reference(FIRST),
        ),
    ),
    Told(
        45,
        f"evaluation/{RUN}/{THIRD}",
        EvaluationImported(THIRD, "/mnt/other/clipwatch.db", "shapes-4d5e6f", 12),
    ),
    Told(
        46,
        f"tracker/{RUN}/tensorboard",
        MoreShown("tensorboard", (f"checkpoint-400/ffffffff/{PROTOCOL[:8]}",), "/out", PROTOCOL),
    ),
    Told(
        47,
        f"evaluation/{RUN}/{THIRD}",
        LossMeasured(
            THIRD,
            LossProtocol(
                (Example("a" * 16, "naïve"), Example("b" * 16, "")),
                (Example("c" * 16, "one red circle"),),
                0,
                64,
                64,
            ),
            ((0.5, 0.25, 0.125, 0.5, 0.25, 0.125), (1.0, 0.5, 0.25, 1.0, 0.5, 0.25)),
            ((0.5, 0.5, 0.5, 0.5, 0.5, 0.5),),
            1.5,
        ),
    ),
    Told(47, f"evaluation/{RUN}/{THIRD}", LossNotMeasured(THIRD, "a.png cannot be read")),
    Told(48, RUN_STREAM, ProtocolDefined(ASKED.digest, ASKED)),
    Told(
        49,
        f"evaluation/{RUN}/{FOURTH}",
        EvaluationStarted(FOURTH, "checkpoint-200", 200, "b" * 16, ASKED.digest, {}),
    ),
    Told(
        49,
        f"evaluation/{RUN}/{FOURTH}",
        ImagesScored(
            FOURTH,
            (
                ImageScore(
                    "circle",
                    0,
                    11,
                    {"": 0.5, "questions": 0.375},
                    answers={"questions": (0.25, 0.5)},
                ),
                ImageScore(
                    "naïve", 0, 12, {"": 0.25, "questions": 1.0}, answers={"questions": (1.0,)}
                ),
            ),
        ),
    ),
    Told(
        50,
        f"evaluation/{RUN}/{FOURTH}",
        EvaluationCompleted(
            FOURTH,
            {
                "": Summary(0.375, 0.25, 0.5, 0.125, 2, 2, 0.125, -1.0, 1.0),
                "questions": Summary(0.6875, 0.375, 1.0, 0.3125, 2, 2, 0.3125, -3.25, 4.625),
            },
            answered={
                "questions": Answered(
                    Summary(0.675, 0.35, 1.0, 0.325, 2, 2, 0.325, -3.5, 4.75),
                    {"count": Summary(0.25, 0.25, 0.25, 0.0, 1, 1)},
                )
            },
        ),
    ),
    Told(51, f"evaluation/{RUN}/{THIRD}", EvaluationOutdone(THIRD, SECOND, 32, 144, -0.0625)),
)
"""What happened, in order. Add at its end only: each fixture holds a beginning of it."""


def write(path: Path) -> None:
    """Write the story into a new log, one commit an event."""
    now = NOON
    with Journal(path, clock=lambda: now) as journal:
        for told in STORY:
            now = _at(told.seconds)
            journal.append(RUN, told.stream, journal.version(told.stream), [told.event])


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=LOGS / f"format-{FORMAT}.db")
    output: Path = parser.parse_args().output
    output.unlink(missing_ok=True)
    write(output)
    print(f"{len(STORY)} events in {output}")


if __name__ == "__main__":
    main()
