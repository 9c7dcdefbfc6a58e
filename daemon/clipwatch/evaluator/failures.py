"""Why an evaluation ended without a result, in the kinds that the daemon acts on."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch

from clipwatch.executors.messages import Failed
from clipwatch.kit.errors import CheckpointError
from clipwatch.kit.hub import trouble

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipwatch.domain.kinds import FailureKind

_MEMORY_WORDS: Final = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "status_alloc_failed",
)
# the device refuses all work from here on, in this process
_DEVICE_WORDS: Final = ("cuda error", "cuda driver error", "hip error", "cudnn error", "cublas_")
_SHAPE_WORDS: Final = (
    "given groups=",
    "given normalized_shape=",
    "shapes cannot be multiplied",
    "must match the size of tensor",
    "sizes of tensors must match",
    "is invalid for input of size",
    "for first two dimensions of batch2",
    "expected input",
    "index out of range in self",  # a token that the text encoder does not know
)
"""Of which torch says one where tensors do not fit each other."""
_LONGEST: Final = 500


class EvaluationError(CheckpointError):
    """This evaluation has no result; `kind` is one of `Failed.kind`, the text one line."""

    def __init__(self, kind: FailureKind, reason: str, *, fix: str = "") -> None:
        super().__init__(reason, fix=fix)
        self.kind: FailureKind = kind


def one_line(error: BaseException) -> str:
    """Return a library's error in at most 500 characters, its type if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def cause(error: BaseException) -> FailureKind | None:
    """Return "memory", "disk" or "internal" (the device) if the machine is at fault, else None.

    Libraries wrap what they catch, so what an error came from is looked at, too; and torch says
    some of it in words, not in types.
    """
    link: BaseException | None = error
    while link is not None:
        text = str(link).lower()
        if isinstance(link, MemoryError | torch.OutOfMemoryError):
            return "memory"
        if any(words in text for words in _MEMORY_WORDS):
            return "memory"
        if isinstance(link, OSError) and link.errno in {errno.ENOSPC, errno.EDQUOT}:
            return "disk"
        if any(words in text for words in _DEVICE_WORDS):
            return "internal"
        link = link.__cause__ or link.__context__
    return None


def misshapen(error: BaseException) -> bool:
    """Whether tensors did not fit each other: it will be the same at every attempt."""
    text = str(error).lower()
    return isinstance(error, (RuntimeError, IndexError)) and any(
        words in text for words in _SHAPE_WORDS
    )


@contextmanager
def failing_as(kind: FailureKind, what: str, fix: str = "") -> Iterator[None]:
    """Turn any error inside into an EvaluationError whose text begins with `what`.

    Its kind is `kind`, unless the machine is at fault (see `cause`).
    """
    try:
        yield
    except EvaluationError:
        raise
    except Exception as error:
        problem = f"{what}: {one_line(error)}"
        raise EvaluationError(cause(error) or kind, problem, fix=fix) from error


def failure_of(error: Exception) -> Failed:
    """Return the reply that an error ends an evaluation with."""
    if isinstance(error, EvaluationError):
        return Failed(error.kind, one_line(error))
    return Failed(cause(error) or "internal", f"{type(error).__name__}: {one_line(error)}")


@contextmanager
def from_hub(what: str) -> Iterator[None]:
    """Have a model's files looked for inside: what the Hub's client says is told in a line.

    Raises:
        EvaluationError: "model", or what the machine is at fault for; its text begins with `what`.
    """
    try:
        yield
    except Exception as error:
        if (known := trouble(error)) is None:
            raise
        from clipwatch.evaluator.failures import EvaluationError, cause

        kind = cause(error) or "model"
        raise EvaluationError(kind, f"{what}: {known.what}", fix=known.advice) from error
