"""What prompts say about how they are to be sampled, in the words of each trainer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

Name = Literal[
    "width", "height", "steps", "scale", "guidance", "negative_prompt", "seed", "sampler"
]
"""What is asked for: `scale` is that of classifier-free guidance where a trainer has both."""

_MOST = 2**63


class Option(NamedTuple):
    """One thing that a prompt asks for.

    Attributes:
        name: What.
        value: How much of it, or which.
        written: As its file calls it: "--s", "sample_steps".
    """

    name: Name
    value: int | float | str
    written: str


class Said(NamedTuple):
    """A prompt without the options that stood behind it."""

    text: str
    options: tuple[Option, ...] = ()
    ignored: tuple[str, ...] = ()


NAMES: Final[Mapping[str, Name]] = MappingProxyType(
    {
        "width": "width",
        "height": "height",
        "seed": "seed",
        "scale": "scale",
        "cfg_scale": "scale",
        "guidance": "guidance",
        "guidance_scale": "guidance",
        "negative": "negative_prompt",
        "negative_prompt": "negative_prompt",
        "neg": "negative_prompt",
        "steps": "steps",
        "sample_steps": "steps",
        "diffusion_steps": "steps",
        "num_inference_steps": "steps",
        "sampler": "sampler",
        "scheduler": "sampler",
        "sample_sampler": "sampler",
        "noise_scheduler": "sampler",
    }
)
"""Members of an object in JSON, TOML or YAML that a prompt's sampling is told by."""

# of sd-scripts, and of musubi-tuner: line_to_prompt_dict in library/train_util.py
_KOHYA: Final[Mapping[str, Name]] = MappingProxyType(
    {
        r"(w) (\d+)": "width",
        r"(h) (\d+)": "height",
        r"(d) (\d+)": "seed",
        r"(s) (\d+)": "steps",
        r"(l) ([\d.]+)": "scale",
        r"(g) ([\d.]+)": "guidance",
        r"(n) (.+)": "negative_prompt",
        r"(ss) (.+)": "sampler",
    }
)
_STEPS = 1000  # more than these it takes for these
# those that sd-scripts, musubi-tuner and their front ends write behind a prompt
_FLAGS = "n w h d s l g f i t am ar ci cn ctr cfs ei fs of ov sn ss te rcfg"
_FLAG = re.compile(rf"(?:^| )--({'|'.join(_FLAGS.split())})(?=\s|$)", re.IGNORECASE)

# of ai-toolkit: _process_prompt_string in its toolkit/config_modules.py
_AI_TOOLKIT: Final[Mapping[str, Name]] = MappingProxyType(
    {
        "n": "negative_prompt",
        "w": "width",
        "h": "height",
        "d": "seed",
        "seed": "seed",
        "l": "guidance",
        "cfg": "guidance",
        "s": "steps",
        "steps": "steps",
    }
)


def has_kohyas(text: str) -> bool:
    """Whether an option of sd-scripts or musubi-tuner stands in a line."""
    return _FLAG.search(text) is not None


def of_kohya(line: str) -> Said:
    """Split a line as sd-scripts does: at every " --", whatever comes behind it.

    What it does not know, or cannot read, it passes over; a line that begins with an option has no
    prompt.
    """
    text, *behind = f" {line}".split(" --")
    found: dict[str, Option] = {}
    ignored = []
    for segment in behind:
        match = _matched(segment)
        option = match and made(match[1], match[2], f"--{match[0]}")
        if option:
            found[option.name] = option
        else:
            ignored.append(f"--{segment.split(' ')[0].lower()}")
    return Said(text.strip(), tuple(found.values()), tuple(ignored))


def of_ai_toolkit(prompt: str) -> Said:
    """Split a prompt as ai-toolkit does: at every "--", with names of several letters."""
    text, *behind = prompt.strip().split("--")
    found: dict[str, Option] = {}
    ignored = []
    for segment in behind:
        flag, _, content = segment.partition(" ")
        name = _AI_TOOLKIT.get(flag.strip())
        option = made(name, content.strip(), f"--{flag.strip()}") if name else None
        if option:
            found[option.name] = option
        else:
            ignored.append(f"--{flag.strip()}")
    return Said(text.strip(), tuple(found.values()), tuple(ignored))


def of_members(members: Iterable[tuple[str, Any]]) -> Iterator[Option | str]:
    """Yield an option for each member of an object that is one, its name if it cannot be read.

    A value of none asks for nothing.
    """
    for written, value in members:
        if (name := NAMES.get(written)) and value is not None:
            yield made(name, value, written) or written


def made(name: Name, value: Any, written: str) -> Option | None:
    """Return an option with a value of its kind, None where it has none."""
    try:
        read = _READ[name](value)
    except (TypeError, ValueError, OverflowError):
        return None
    return Option(name, read, written)


def _matched(segment: str) -> tuple[str, Name, str] | None:
    for pattern, name in _KOHYA.items():
        if match := re.match(pattern, segment, re.IGNORECASE):
            steps = name == "steps" and len(match[2]) < len(str(_MOST))
            value = str(max(1, min(_STEPS, int(match[2])))) if steps else match[2]
            return match[1].lower(), name, value
    return None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or len(str(value)) > len(str(_MOST)):
        raise ValueError
    number = int(value)
    if number != float(value) or abs(number) >= _MOST:
        raise ValueError
    return number


def _real(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    return number


def _text(value: Any) -> str:
    if value is False:  # ai-toolkit's "no negative prompt"
        return ""
    if not isinstance(value, str):
        raise TypeError
    return value.strip()


_READ: Final[Mapping[Name, Callable[[Any], int | float | str]]] = MappingProxyType(
    {
        "width": _whole,
        "height": _whole,
        "steps": _whole,
        "seed": _whole,
        "scale": _real,
        "guidance": _real,
        "negative_prompt": _text,
        "sampler": _text,
    }
)
