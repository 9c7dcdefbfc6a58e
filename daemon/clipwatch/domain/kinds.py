"""The words of which there are few: one list of each, for log, messages, state and settings.

A log may hold one that a later version has added: it is read as it is written (see
`written.decode`), and whoever goes by a kind has an answer for one that is not known.
"""

from __future__ import annotations

from typing import Literal

CheckpointKind = Literal["full", "lora", "lycoris", "embeddings", "pipeline", "base"]
"""What there is to load: a component trained in full, an adapter of diffusers or PEFT, a LyCORIS
network, learned tokens alone, a whole pipeline; "base" is the base model without a checkpoint."""

AdapterKind = Literal["lora", "lycoris", "embeddings"]
"""Those that are put on top of the base."""

Unit = Literal["step", "epoch", "file"]
"""What the number of a checkpoint counts; files have no order but that of their names."""

CheckpointState = Literal["partial", "whole", "discarded"]

DiscardKind = Literal["vanished", "unsupported", "unreadable", "abandoned", "skipped"]
"""Why a checkpoint will not be evaluated; "skipped": newer ones came before its turn."""

WhenBehind = Literal["wait", "newest", "spread"]
"""Of checkpoints that come faster than they are evaluated: all wait for their turn, the newest is
jumped to, or an even spread is kept."""

Decide = Literal["mean", "difference"]
"""By what an evaluation may end before its last image: its mean, or its difference to another."""

PrecisionInterval = Literal["sequence", "student"]
"""By which interval a mean is known closely enough: one for every look, or one for the last."""

Finding = Literal["above", "below", "within", "open"]
"""How an evaluation compares with another: within what matters, by more, or nobody knows."""

EvaluationState = Literal["running", "failed", "outdone", "scored"]

FailureKind = Literal[
    "memory",  # of host or device: try a smaller batch
    "vanished",  # the checkpoint did
    "changed",
    "unreadable",
    "stage",  # it cannot be kept from rotation as asked
    "weights",  # they do not fit, are not finite or were not all applied
    "model",  # base model or scorer cannot be loaded
    "misfit",  # parts of the base model do not fit each other
    "scores",  # not finite
    "disk",  # full, or a quota is
    "device",  # no GPU may be used just now
    "killed",  # the evaluator's process ended
    "hung",  # it had to be ended
    "internal",
]
"""Why an attempt has no result."""

AdviceKind = Literal["low", "saturated", "plateau", "regressed", "collapsed", "overfit", "copied"]

ReceiverKind = Literal["tracker", "channel"]
"""Who gets what a run has for others: results, or advice."""

Question = Literal["follows", "better"]
"""What a voter is asked of two images: which follows its prompt better, or which is better."""

Choice = Literal["left", "right", "neither"]
"""What a voter says to it."""

TrainedWeights = Literal["live", "ema"]
"""Which of a checkpoint's: as trained, or averaged."""

Dtype = Literal["fp32", "bf16", "fp16"]
Offload = Literal["none", "model", "group"]
"""What waits in host memory until it computes: nothing, whole models, or groups of layers."""

Seeds = Literal["per-prompt", "trainer"]
"""Of an image: by its prompt and index, or the configured one for every prompt."""

Rules = Literal["", "simpletuner"]
"""By whose a pipeline is called where no setting says it: diffusers' own, or a trainer's."""

Spacing = Literal["leading", "linspace", "trailing"]
StageMode = Literal["auto", "reflink", "pin", "copy", "off"]
"""How a checkpoint is kept from rotation."""

ImageFormat = Literal["png", "webp"]
"""How images are kept; both give the very pixels back."""

WatchMode = Literal["auto", "events", "poll"]
"""How changes are noticed: by the file system, by its events, or by looking alone."""
