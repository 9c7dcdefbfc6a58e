"""Libraries that talk while they load."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Final

_TALKERS: Final = ("bitsandbytes", "torch.utils._pytree", "torchao")
"""What others import if it is installed; each tells of kernels that this machine lacks."""


def hush() -> None:
    """Silence what others tell of kernels; no library is imported for that."""
    for name in _TALKERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def quiet() -> None:
    """Silence progress bars and remarks that nobody can act on; errors stay."""
    quiet_scorers()
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    # of merging a LoRA into its base, which is never done here; what it leaves out, we look for
    warnings.filterwarnings("ignore", category=UserWarning, module=r"peft\.")


def quiet_scorers() -> None:
    """Do the same where no pipeline is loaded: diffusers takes as long to import as torch."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    hush()
    # of code that is compiled when it is first imported, as uv installs it
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
