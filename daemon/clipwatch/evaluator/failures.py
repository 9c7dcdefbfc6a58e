"""Why an evaluation ended without a result, in the kinds that the daemon acts on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from clipwatch.errors import CheckpointError
from clipwatch.evaluator.messages import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["memory", "vanished", "changed", "weights", "model", "scores", "internal"]

_MEMORY_WORDS: Final = ("out of memory", "can't allocate memory", "cannot allocate memory")
_LONGEST: Final = 500


class EvaluationError(CheckpointError):
    """This evaluation has no result; `kind` is one of `Failed.kind`, the text one line."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind: Kind = kind


def one_line(error: BaseException) -> str:
    """Return a library's error in at most 500 characters, its type if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def out_of_memory(error: BaseException) -> bool:
    """Whether host or device ran out of memory; torch says so in words, not in one type."""
    return isinstance(error, MemoryError) or any(
        words in str(error).lower() for words in _MEMORY_WORDS
    )


@contextmanager
def failing_as(kind: Kind, what: str) -> Iterator[None]:
    """Turn any error inside into an EvaluationError of `kind` whose text begins with `what`."""
    try:
        yield
    except EvaluationError:
        raise
    except Exception as error:
        found: Kind = "memory" if out_of_memory(error) else kind
        raise EvaluationError(found, f"{what}: {one_line(error)}") from error


def failure_of(error: Exception) -> Failed:
    """Return the reply that an error ends an evaluation with."""
    if isinstance(error, EvaluationError):
        return Failed(error.kind, one_line(error))
    kind = "memory" if out_of_memory(error) else "internal"
    return Failed(kind, f"{type(error).__name__}: {one_line(error)}")
