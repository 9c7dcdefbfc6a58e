"""Brings the models of a run here before they are needed; the work is done by a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from clipwatch.domain.protocol import EvaluationProtocol, ScorerSpec
from clipwatch.executors.messages import Coming, FetchReply
from clipwatch.kit.decoding import decoder
from clipwatch.kit.environment import environment
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.models.scorers import kind_of

_QUIET = {f"{name}_VERBOSITY": "error" for name in ("HF_HUB", "DIFFUSERS", "TRANSFORMERS")}


def check_online(protocol: EvaluationProtocol) -> None:
    """Make sure that what is to be fetched may be fetched.

    Raises:
        SettingsError: A model is named by its Hub id, and the environment forbids downloads.
    """
    from huggingface_hub import constants

    parts = (it.model for it in protocol.parts)
    named = (protocol.base_model, *parts, *(it.model for it in _with_files(protocol)))
    remote = [name for name in named if not Path(name).is_dir()]
    if remote and constants.HF_HUB_OFFLINE:
        raise SettingsError(
            f"HF_HUB_OFFLINE is set, so {' and '.join(remote)} cannot be fetched",
            fix="unset it for this command, and call it where there is a network",
        )


def fetch(protocol: EvaluationProtocol) -> Iterator[FetchReply]:
    """Yield what became of the base model, then of each part from elsewhere, then of each scorer.

    What a call before had begun is gone on with. In between it yields what is on its way, about
    once a second while it moves.

    Raises:
        ClipwatchError: The child ended before it had told of all.
    """
    own = environment(os.environ, os.cpu_count() or 1) | _QUIET
    told = 0
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "clipwatch.evaluator.downloader"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=own,
        start_new_session=True,  # a terminal's Ctrl-C is ours to handle
    ) as child:
        try:
            if child.stdin is None or child.stdout is None:
                raise ValueError("no pipes")
            child.stdin.write(msgspec.json.encode(protocol))
            child.stdin.close()
            for line in child.stdout:
                reply: FetchReply = decoder(FetchReply).decode(line)
                told += not isinstance(reply, Coming)
                yield reply
        except BaseException:
            child.kill()
            raise
    if told < 1 + len(protocol.parts) + len(_with_files(protocol)):
        message = f"the download ended early, with code {child.returncode}"
        raise ClipwatchError(message, fix="call it again to go on")


def _with_files(protocol: EvaluationProtocol) -> list[ScorerSpec]:
    return [it for it in protocol.scorers if kind_of(it.kind).files is not None]
