"""What the Hub's client means by its errors, in words to act on; imports no torch."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from clipwatch.kit.secrets import masked

_UNREACHABLE: Final = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError", "ProxyError")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_ELSEWHERE: Final = (
    "run `clipwatch fetch` where there is a network, with HF_HOME on a disk that is seen from here"
)


TOLD_SECONDS: Final = 1.0
"""Pause between two words on a download."""

REACH_SECONDS: Final = 8.0
"""How long the Hub may take to answer when it is asked for one file's head."""


class Trouble(NamedTuple):
    """What is wrong with a model, said of "it", and what to do."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}: {self.advice}"


def trouble(error: BaseException) -> Trouble | None:
    """Say what an error of the Hub's client, or one that came from it, means for a model.

    None when it is no such error, nor a full disk.
    """
    from huggingface_hub import constants, errors

    chain = list(_chain(error))
    hub, cache = hub_address(), constants.HF_HUB_CACHE
    answers = (each.response for each in chain if isinstance(each, errors.HfHubHTTPError))
    status = next((answer.status_code for answer in answers if answer is not None), 0)

    def any_is(kind: type[BaseException]) -> bool:
        return any(isinstance(each, kind) for each in chain)

    rules = (
        (
            any(isinstance(each, OSError) and each.errno in _FULL for each in chain),
            f"there is no space left in {cache}",
            "set HF_HOME to a larger disk",
        ),
        (
            any_is(errors.GatedRepoError),
            "it is gated",
            f"accept its terms on its page at {hub}, and set HF_TOKEN to a token of that account",
        ),
        (
            any_is(errors.RepositoryNotFoundError),
            f"it is no folder here, and {hub} has no such model, or a private one",
            "correct its name, or set HF_TOKEN to a token that may read it",
        ),
        (
            any_is(errors.RevisionNotFoundError),
            "it has no such revision",
            "correct revision or scorer_revision",
        ),
        (
            any_is(errors.OfflineModeIsEnabled),
            f"it is not in the cache {cache}, and HF_HUB_OFFLINE forbids to fetch it",
            _ELSEWHERE,
        ),
        (
            any_is(errors.RemoteEntryNotFoundError),
            "it lacks a file that such a model has",
            "choose one in the form of diffusers (base model) or transformers (scorer)",
        ),
        (
            any(type(each).__name__ in _UNREACHABLE for each in chain),
            f"it is not in the cache {cache}, and {hub} does not answer",
            _ELSEWHERE,
        ),
        (
            status > 0,
            f"{hub} answers {status}",
            "check HF_TOKEN and HF_ENDPOINT, or try again later",
        ),
        (
            any_is(errors.LocalEntryNotFoundError),
            f"it is not whole in the cache {cache}",
            _ELSEWHERE,
        ),
    )
    return next((Trouble(what, advice) for holds, what, advice in rules if holds), None)


def hub_address() -> str:
    """Return the Hub's address as HF_ENDPOINT has it, without who logs in."""
    from huggingface_hub import constants

    return masked(constants.ENDPOINT)


@contextmanager
def bytes_told(tell: Callable[[int, int], None]) -> Iterator[None]:
    """Have `tell` hear how many bytes of how many are here, of the largest download inside.

    At most once a second, and from any thread. Nothing is drawn.
    """
    from huggingface_hub.utils.tqdm import tqdm

    # diffusers and transformers hand no class of bars on, so it is the Hub's own that has to tell
    bar_class: Any = tqdm
    first, draw = bar_class.__init__, bar_class.display
    nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - closed below
    told, most = 0.0, 0

    def begin(bar: Any, *given: Any, **named: Any) -> None:
        named.pop("name", None)  # by which the Hub's own looks whether it is disabled
        named |= {"disable": False, "file": nowhere, "leave": False}
        super(bar_class, bar).__init__(*given, **named)

    def report(bar: Any, *_: Any, **__: Any) -> None:
        nonlocal told, most
        now = time.monotonic()
        total = bar.total or 0
        if bar.unit == "B" and total >= most and now - told >= TOLD_SECONDS:
            told, most = now, total
            tell(int(bar.n), int(total))

    bar_class.__init__, bar_class.display = begin, report
    try:
        yield
    finally:
        bar_class.__init__, bar_class.display = first, draw
        nowhere.close()


def unreachable(name: str, file: str, revision: str) -> Trouble | None:
    """Ask the Hub for the head of one file; return why it would not give it, None if it would."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        if constants.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled
        get_hf_file_metadata(
            hf_hub_url(name, file, revision=revision or None), timeout=REACH_SECONDS
        )
    except Exception as error:  # noqa: BLE001 - the client lets its HTTP library's errors through
        known = trouble(error)
        return known or Trouble(
            f"{hub_address()} cannot be asked ({masked(str(error))})", "try again later"
        )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
