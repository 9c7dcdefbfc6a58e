"""The settings in parts: what clipwatch is told of its own work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipwatch.domain.deciding import BEST
from clipwatch.domain.kinds import (
    Decide,
    ImageFormat,
    PrecisionInterval,
    StageMode,
    WatchMode,
    WhenBehind,
)
from clipwatch.layouts.claims import Layouts, chosen
from clipwatch.settings import derived, ends
from clipwatch.settings import readers as read
from clipwatch.settings.keys import own, trainers
from clipwatch.settings.values import Address, Ends


@dataclass(frozen=True, slots=True)
class Paths:
    """Folders, all absolute; symlinks are kept, and what is named may not exist yet.

    `state_dir` lies outside of `output_dir`, `logging_dir` below it unless the trainer's is
    absolute. Of an `address` `output_dir` is the folder in `state_dir` to which it is copied.
    """

    output_dir: Path = trainers(
        "output_dir", None, "folder of the checkpoints, or its address; required", read.text
    )
    logging_dir: Path = trainers(
        "logging_dir", "logs", "TensorBoard folder, below output_dir unless absolute", read.text
    )
    working_dir: Path = own("working_dir", None, "the trainer's working directory", read.text)
    state_dir: Path = own("state_dir", None, "where clipwatch keeps its log and images", read.text)
    address: str = ""

    @property
    def named(self) -> Path | str:
        """What the run is known by: the address, else the folder."""
        return self.address or self.output_dir


@dataclass(frozen=True, slots=True)
class Publishing:
    """Where results go: the adapters, each once, the trainer's names for its tracker, a page."""

    trackers: tuple[str, ...] = trainers(
        "report_to", (), "trackers: names, a comma list, all or none", read.tracker_names
    )
    project: str = trainers(
        "tracker_project_name", "simpletuner", "the tracker's project", blank=True
    )
    run_name: str = trainers(
        "tracker_run_name", "simpletuner-testing", "the tracker's run", blank=True
    )
    report: bool = own("report", False, "keep a page in state_dir, made anew after results")


@dataclass(frozen=True, slots=True)
class Compute:
    """What an evaluation may take.

    `executor` has the slots: "local" for this machine, or an entry point's name. `ray_address` is
    read by "ray" alone, "auto" for the cluster that this machine belongs to. `device` is "cpu",
    "cuda", "cuda:N", "mps", or the UUID of a GPU or a part of one, or several with commas; without
    `gpu_memory_gib` it is what fits `share_gpu`. `slots` is None for `most_slots`, `batch_size`
    None to find out, `attention` "" for the pipeline's own.
    """

    executor: str = own("executor", "local", "where evaluations run", read.executor)
    ray_address: str = own(
        "ray_address", "auto", "the Ray cluster: auto, HOST:PORT or ray://HOST:PORT", read.ray
    )
    device: str = own(
        "device", "auto", "auto, cpu, cuda, cuda:N, a UUID or mps; several with commas", read.device
    )
    slots: int | None = own("slots", None, "most evaluators at once", read.whole(1))
    share_gpu: bool = own("share_gpu", False, "use a GPU that others compute on")
    gpu_memory_gib: float | None = own(
        "gpu_memory_gib", None, "most GPU memory to take", read.real(0, above=True)
    )
    batch_size: int | None = own(
        "batch_size",
        "auto",
        "images generated at once; auto finds out",
        read.batch_size,
        becomes=lambda value: None if value == "auto" else value,
    )
    attention: str = own(
        "attention", "", "native or a diffusers attention backend", read.backend, blank=True
    )

    @property
    def devices(self) -> tuple[str, ...]:
        """Each of those that `device` names; of CPU slots there may be several."""
        return tuple(self.device.split(","))

    @property
    def most_slots(self) -> int | None:
        """How many slots a run may take at once; None for all that its executor tells.

        Left out it is one for each device that is named here, and all of another executor's.
        """
        return self.slots or (len(self.devices) if self.executor == "local" else None)


@dataclass(frozen=True, slots=True)
class Evaluating:
    """What is evaluated, for how long, and what is kept.

    All images are made without `precision`, and while `decide` is "mean". `decide_against` is read
    with "difference" alone: "best" for the highest mean so far, "base", RUN@STEP or @STEP.
    `keep_images` is -1 for all; `keep_images_gb` bounds all of a run, in 10**9 bytes. In a `race`,
    as `clipwatch rank` has it made, no more images are made of what is surely not the best.
    """

    baseline: bool = own("baseline", True, "score the base model, too, as step 0")
    precision: float | None = own(
        "precision", None, "end an evaluation at this half interval", read.real(0, above=True)
    )
    precision_interval: PrecisionInterval = own(
        "precision_interval", "sequence", "for every look, or for the last one"
    )
    decide: Decide = own("decide", "mean", "what ends an evaluation: its mean, or a difference")
    decide_against: str = own(
        "decide_against", BEST, "for difference: best, base or RUN@STEP", ends.reference
    )
    stall_seconds: float = own(
        "stall_seconds", 1800.0, "silence before an evaluator is ended", read.real(1)
    )
    max_attempts: int = own(
        "max_attempts", 3, "tries before an evaluation is given up", read.whole(1)
    )
    image_format: ImageFormat = own("image_format", "png", "how images are kept, without loss")
    keep_images: int = own(
        "keep_images", 20, "newest evaluations with images; all, none", read.keep_images
    )
    keep_images_gb: float | None = own(
        "keep_images_gb", None, "most that a run's images may take", read.real(0, above=True)
    )
    when_behind: WhenBehind = own("when_behind", "wait", "what becomes of those that come too fast")
    race: bool = False

    @property
    def early(self) -> bool:
        """Whether an evaluation may end before its last image."""
        return self.precision is not None or self.decide == "difference" or self.race

    @property
    def ending(self) -> tuple[object, ...]:
        """All by which it may."""
        return (self.precision, self.precision_interval, self.decide, self.decide_against)


@dataclass(frozen=True, slots=True)
class Watching:
    """How the output directory is looked at; without `exit_when_done` for ever."""

    layout: str = own("layout", "auto", "whose checkpoints are looked for", read.layout)
    layout_files: str = own(
        "layout_files", "", "for generic: a pattern of names", read.text, blank=True
    )
    layout_step: str = own(
        "layout_step", "", "for generic: an expression for the step", read.number_in, blank=True
    )
    only: tuple[str, ...] = own(
        "layout_only", (), "names in output_dir; all others are passed over", read.names
    )
    watch: WatchMode = own("watch", "auto", "how changes are noticed")
    rescan_seconds: float = own(
        "rescan_seconds", 5.0, "time between two looks at the folder", read.real(0.1)
    )
    settle_seconds: float = own(
        "settle_seconds", 10.0, "an unmarked checkpoint's time without change", read.real(0)
    )
    exit_when_done: Ends | None = own(
        "exit_when_done", None, "end with the training", read.ends, blank=True
    )

    @property
    def layouts(self) -> Layouts:
        """Those to ask.

        Raises:
            SettingsError: One cannot be loaded.
        """
        return chosen(self.layout, self.layout_files, self.layout_step, self.only)


@dataclass(frozen=True, slots=True)
class Staging:
    """How checkpoints are kept from rotation, and how many at once."""

    stage: StageMode = own("stage", "auto", "how a checkpoint is kept from rotation")
    stage_limit: int = own(
        "stage_limit", 2, "checkpoints kept from rotation at once", read.whole(1)
    )


@dataclass(frozen=True, slots=True)
class Service:
    """The daemon as a process: where it answers (None for nowhere), how long a stop may wait."""

    priority: int = own(
        "priority", 0, "among runs of one daemon: the higher first", read.whole(-(10**6), 10**6)
    )
    give_way: bool = own("give_way", True, "let the training have processor and disk first")
    health_address: Address | None = own(
        "health_address", None, "HOST:PORT of health and metrics, or off", read.address, blank=True
    )
    drain_seconds: float = own(
        "drain_seconds", 0.0, "time to finish evaluations when asked to stop", read.real(0)
    )


@dataclass(frozen=True, slots=True)
class Advice:
    """When advice is given, and to whom it goes beside trackers and status.

    Attributes:
        low, saturated: Means, None for never.
        after: Checkpoints before a low mean is told.
        worth: Scorer → a difference of means that matters, above 0; None for no advice by it. Those
            that are not named go by their own scale. "" is the one that decides.
        stretch: Steps without a gain of `worth` that make a plateau.
        webhook: An address that gets JSON by POST, "" for none.
        apprise: Addresses for the package Apprise.
        every_checkpoint: Each score is told as well.
        pictures: Apprise gets a contact sheet with each message.
    """

    low: float | None = own(
        "advice.low", None, "mean below which a model is called poor", read.number
    )
    saturated: float | None = own(
        "advice.saturated", None, "mean above which differences say little", read.number
    )
    after: int = own("advice.after", 3, "checkpoints before a low mean is told", read.whole(1))
    worth: dict[str, float | None] = own(
        "advice.worth",
        None,
        "a difference of means that matters, by scorer",
        read.worth,
        becomes=derived.by_scorer,
    )
    stretch: int = own(
        "advice.stretch", 1000, "steps without a gain of worth: a plateau", read.whole(1)
    )
    webhook: str = own(
        "advice.webhook",
        None,
        "address that gets advice as JSON",
        secret=True,
        becomes=derived.or_blank,
    )
    apprise: tuple[str, ...] = own(
        "advice.apprise", (), "Apprise addresses that get advice", read.addresses, secret=True
    )
    every_checkpoint: bool = own(
        "notify_every_checkpoint", False, "tell of each score, where advice goes"
    )
    pictures: bool = own("notify_pictures", False, "a contact sheet with each Apprise message")
