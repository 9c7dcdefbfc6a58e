"""The environment of the evaluator's process: what it needs, and none of the daemon's secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_SECRET: Final = re.compile(
    r"(^|_)(KEYS?|TOKENS?|SECRETS?|PASS|PASSPHRASE)(_|$)|_PWD$|APIKEY|PASSWORD|PASSWD|CREDENTIAL"
)
# what speaks to systemd, to the tracker or for the user is the daemon's alone
_DAEMONS: Final = re.compile(
    r"(CLIPWATCH|WANDB|WATCHDOG)_.*|NOTIFY_SOCKET|LISTEN_(FDS|PID|FDNAMES)|SSH_AUTH_SOCK"
)
_URL_WITH_LOGIN: Final = re.compile(r"://\S*@")

_NEEDED: Final = frozenset(
    {
        # gated models are loaded from the Hub with its token, the one secret that is handed on
        *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN"),
        *("HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
    }
)

_FORCED: Final = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "DIFFUSERS_DISABLE_REMOTE_CODE": "1"}
_OPPOSITE: Final = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # with both, torch loads nothing at all


def environment(environ: Mapping[str, str], cores: int) -> dict[str, str]:
    """Return the evaluator's environment: no secrets but the Hub's token, no unpickling, no code.

    It takes half of the cores that are its share unless OMP_NUM_THREADS says otherwise; more would
    only make it and the training wait for each other. GPUs are counted as nvidia-smi counts them,
    unless CUDA_DEVICE_ORDER says otherwise. LD_PRELOAD, PYTHONPATH and their like stay: who sets
    them rules the daemon already, and memory allocators and some builds of PyTorch need them.
    """
    kept = {name: value for name, value in environ.items() if _harmless(name.upper(), value)}
    defaults = {"OMP_NUM_THREADS": str(max(1, cores // 2)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {**defaults, **kept, **_FORCED}


def _harmless(name: str, value: str) -> bool:
    return name in _NEEDED or not (
        name == _OPPOSITE
        or _SECRET.search(name)
        or _DAEMONS.fullmatch(name)
        or _URL_WITH_LOGIN.search(value)
    )
