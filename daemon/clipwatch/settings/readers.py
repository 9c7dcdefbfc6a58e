"""How a written value becomes a typed one: each reader returns it, or raises ValueError with why.

Numbers and booleans may be written as strings, as on a command line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from packaging.version import InvalidVersion, Version

from clipwatch.kit import plugins
from clipwatch.kit.textfiles import problem
from clipwatch.layouts.claims import BUILT_IN, FILES, GENERIC
from clipwatch.models.precisions import PRECISIONS
from clipwatch.settings.values import Address, Ends, Size

Reader = Callable[[Any], Any]

LARGEST_SEED = 2**63 - 1
"""The largest that torch and the log take."""

_YES = ("1", "true", "yes", "y", "on")
_NO = ("0", "false", "no", "n", "off")
_IMAGE_LIBRARIES = (*_YES, "default", "image", "images")
_NO_LIBRARY = (*_NO, "none", "null")
_AUDIO_LIBRARIES = ("audio", "music", "audio_music", "audio-music")
_SCHEDULERS = ("ddim", "ddpm", "euler", "euler-a", "unipc", "dpm++", "lcm", "pipeline")
_PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_matching", "flow_map")
_PLAIN = "none"
_MOST = 10**9  # as seconds still a time that a thread can wait for
_MEGAPIXELS_BELOW = 128
_STEP = 16
_STRENGTHS = 16  # so many times the work of one
_LARGEST = 8192
_PORTS = 1 << 16


def text(value: Any) -> str:
    """Read a text, or a number as one."""
    if isinstance(value, bool | list | dict):
        raise _wrong("must be a text", value)
    written = str(value).strip()
    if wrong := problem(written):
        raise ValueError(": ".join(wrong))
    return written


def optional(value: Any) -> str:
    """Read a text in which "None" means that there is none."""
    written = text(value)
    return "" if written.lower() in ("none", "null") else written


def flag(value: Any) -> bool:
    """Read a yes or no."""
    written = str(value).strip().lower()
    if written in _YES + _NO:
        return written in _YES
    raise _wrong("must be true or false", value)


def whole(minimum: int, maximum: int = _MOST) -> Reader:
    """Return a reader of whole numbers from `minimum` to `maximum`."""

    def read(value: Any) -> int:
        number = _whole(value)
        if number is None or number < minimum:
            raise _wrong(f"must be a whole number of at least {minimum}", value)
        if number > maximum:
            raise _wrong(f"must be a whole number of at most {maximum}", value)
        return number

    return read


def keep_images(value: Any) -> int:
    """Read how many evaluations keep their images, "all" (-1) or "none" (0)."""
    words = {"all": -1, "none": 0}
    return words[value] if isinstance(value, str) and value in words else whole(-1)(value)


def batch_size(value: Any) -> int | str:
    """Read a number of images, or "auto"."""
    return "auto" if value == "auto" else int(whole(1)(value))


def real(minimum: float = 0.0, *, above: bool = False) -> Reader:
    """Return a reader of numbers from `minimum`, or above it, to _MOST."""

    def read(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        fits = number > minimum if above else number >= minimum
        if isinstance(value, bool) or not math.isfinite(number) or not fits:
            raise _wrong(f"must be a number {'above' if above else 'of at least'} {minimum}", value)
        if number > _MOST:
            raise _wrong(f"must be a number of at most {_MOST}", value)
        return number + 0.0  # so that -0.0, an equal number, is no other protocol

    return read


def worth(value: Any) -> float | dict[str, float | None]:
    """Read a number above 0, or an object of such by scorer; null for none."""
    read = real(0, above=True)
    if not isinstance(value, dict):
        return float(read(value))
    return {text(name): None if it is None else read(it) for name, it in value.items()}


def number(value: Any) -> float:
    """Read any number, below 0 too."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found):
        raise _wrong("must be a number", value)
    if abs(found) > _MOST:
        raise _wrong(f"must be a number from -{_MOST} to {_MOST}", value)
    return found + 0.0


def one_of(*choices: str) -> Reader:
    """Return a reader of exactly these texts."""

    def read(value: Any) -> str:
        written = text(value)
        if written not in choices:
            raise _wrong(f"must be {', '.join(choices[:-1])} or {choices[-1]}", value)
        return written

    return read


def executor(value: Any) -> str:
    """Read the name of an executor, one that is installed."""
    written = text(value)
    known = sorted({"local", *plugins.names(plugins.EXECUTORS)})
    if written not in known:
        raise _wrong(f"must be one of {', '.join(known)}", value)
    return written


def ray(value: Any) -> str:
    """Read the address of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT."""
    written = text(value)
    if not re.fullmatch(r"auto|(ray://)?(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d{1,5}", written):
        raise _wrong("must be auto, HOST:PORT or ray://HOST:PORT", value)
    return written


def layout(value: Any) -> str:
    """Read "auto", "generic", "files", or the name of a layout that is installed."""
    written = text(value)
    known = {"auto", GENERIC, FILES, *BUILT_IN, *plugins.names(plugins.LAYOUTS)}
    if written not in known:
        raise _wrong(f"must be one of {', '.join(sorted(known))}", value)
    return written


def number_in(value: Any) -> str:
    """Read a regular expression with one group, or nothing."""
    written = text(value)
    try:
        groups = re.compile(written).groups if written else 1
    except re.error as error:
        raise _wrong(f"must be a regular expression ({error})", value) from None
    if groups != 1:
        raise _wrong("must have one group in brackets, which is the number", value)
    return written


def device(value: Any) -> str:
    """Read "auto", the name of a torch device, or several names with commas or in a list.

    Each name is a slot, so that "cpu,cpu" is two; a GPU has room for one.
    """
    parts = value if isinstance(value, list) else text(value).split(",")
    names = [text(it).strip() for it in parts]
    alone = r"auto|mps|cpu|cuda(:[0-9]{1,3})?|(GPU|MIG)-[\w/-]{1,99}"
    beside = r"cpu|cuda:[0-9]{1,3}|(GPU|MIG)-[\w/-]{1,99}"
    if not names or not all(re.fullmatch(beside if names[1:] else alone, it) for it in names):
        if names[1:]:
            raise _wrong("must name several by cuda:N or UUID each, or be cpu,cpu", value)
        raise _wrong("must be auto, cpu, cuda, cuda:N, GPU-UUID, MIG-UUID or mps", value)
    if len({it == "cpu" for it in names}) > 1:
        raise _wrong("must be all GPUs or all cpu, which make other images", value)
    if "cpu" not in names and (twice := [it for it in names if names.count(it) > 1]):
        raise _wrong(f"names {twice[0]} twice", value)
    return ",".join(names)


def address(value: Any) -> Address | None:
    """Read HOST:PORT, an IPv6 host in brackets; off or nothing for none."""
    written = text(value)
    if written in ("", "off"):
        return None
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})", written)
    if found is None or int(found[2]) >= _PORTS:
        raise _wrong("must be like 127.0.0.1:9464, or off", value)
    return Address(found[1].strip("[]"), int(found[2]))


def ends(value: Any) -> Ends | None:
    """Read what tells that the training is done: export, file:NAME, idle:SECONDS, or several."""
    written = text(value)
    export, file, idle = False, "", None
    for part in filter(None, (part.strip() for part in written.split(","))):
        kind, _, rest = part.partition(":")
        if part == "export":
            export = True
        elif kind == "file" and rest:
            file = rest
        elif kind == "idle" and rest:
            idle = real(above=True)(rest)
        else:
            raise _wrong("must be export, file:NAME or idle:SECONDS, or a comma list", value)
    return Ends(export, file, idle) if written else None


def backend(value: Any) -> str:
    """Read the name of an attention backend; only diffusers can tell whether it knows it."""
    written = text(value)
    if not re.fullmatch(r"\w*", written):
        raise _wrong("must be native or the name of a diffusers attention backend", value)
    return written


def scheduler(value: Any) -> str:
    """Read a sampler by the trainer's name, or "pipeline" for the one that the pipeline has."""
    if value == "perflow":
        raise ValueError(f"perflow is not supported: choose one of {', '.join(_SCHEDULERS)}")
    read: str = one_of(*_SCHEDULERS)(value)
    return read


def prediction(value: Any) -> str:
    """Read what a denoiser predicts, "None" for what the base model's sampler says."""
    written = optional(value)
    if written and written not in _PREDICTIONS:
        raise _wrong(f"must be one of {', '.join(_PREDICTIONS)}", value)
    return written


def layers(value: Any) -> tuple[int, ...] | int:
    """Read a JSON list of layers, nothing for none; a number alone stays one."""
    read = [] if value == "" else value
    if isinstance(read, str):
        try:
            read = json.loads(read)
        except (ValueError, RecursionError):
            read = None
    found = [_whole(it) for it in read] if isinstance(read, list) else [_whole(read)]
    if not all(it is not None and 0 <= it < _MOST for it in found):
        raise _wrong('must be a list of layers: "[7, 8, 9]"', value)
    numbers = tuple(it for it in found if it is not None)
    return numbers if isinstance(read, list) else numbers[0]


def strengths(value: Any) -> tuple[float, ...]:
    """Read a list of numbers, each once, below 0 too; also "0.6, 0.8" as on a command line."""
    read = value
    if isinstance(value, str):
        inner = value.strip().removeprefix("[").removesuffix("]")
        read = inner.split(",") if inner.strip() else []
    try:
        found = tuple(map(number, read if isinstance(read, list) else [read]))
    except ValueError as error:
        raise _wrong("must be a list of numbers: [0.6, 0.8, 1.0]", value) from error
    if twice := [it for it in found if found.count(it) > 1]:
        raise ValueError(f"names {twice[0]:g} twice")
    if len(found) > _STRENGTHS:
        raise ValueError(f"names {len(found)} strengths: at most {_STRENGTHS} can be scored")
    return found


def instruction(value: Any) -> str:
    """Read lines: a JSON list of them, or a text; "None" for none."""
    written = value
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            written = json.loads(value)
        except (ValueError, RecursionError):
            written = value
    lines = written if isinstance(written, list) else str(written).split("\n")
    kept = "\n".join(filter(None, (text(line) for line in lines)))
    return "" if kept in ("None", "null") else kept


def precision(value: Any) -> str:
    """Read how a base is quantised, by the trainer's name; "none" for not at all."""
    written = text(value)
    if written not in (_PLAIN, *PRECISIONS):
        raise _wrong(f"must be one of {', '.join((_PLAIN, *PRECISIONS))}", value)
    return written


def version(value: Any) -> str:
    """Read the version of a package, as PEP 440 has them."""
    written = text(value)
    try:
        Version(written)
    except InvalidVersion:
        raise _wrong('must be a version like "4.10.1"', value) from None
    return written


def image_library(value: Any) -> bool:
    """Read whether the built-in prompts are asked for; the trainer has words for several."""
    written = str(value).strip().lower()
    if written in _AUDIO_LIBRARIES:
        raise ValueError(f"{written!r} names sounds, and CLIP scores images: write true or image")
    if written not in _IMAGE_LIBRARIES + _NO_LIBRARY:
        raise _wrong("must be true, false or image", value)
    return written in _IMAGE_LIBRARIES


def tracker_names(value: Any) -> tuple[str, ...]:
    """Read one name, a comma list or a JSON list; names in lower case, each once."""
    names = value if isinstance(value, list | tuple) else text(value).split(",")
    return tuple(dict.fromkeys(filter(None, (text(name).lower() for name in names))))


def addresses(value: Any) -> tuple[str, ...]:
    """Read one address, several with blanks between them, or a JSON list."""
    listed = value if isinstance(value, list | tuple) else text(value).split()
    return tuple(filter(None, map(text, listed)))


def names(value: Any) -> tuple[str, ...]:
    """Read the name of one file or folder, or a list of such; sorted, each once."""
    listed = value if isinstance(value, list | tuple) else [value]
    return tuple(sorted(set(filter(None, map(text, listed)))))


def option(value: Any) -> str:
    """Read an option of a tracker: a text, a number, or true or false as a text."""
    return str(value).lower() if isinstance(value, bool) else text(value)


def sizes(value: Any) -> tuple[Size, ...]:
    """Read `512`, `1024x768` or a comma list as sizes in multiples of 16 pixels.

    A single number below 128 counts megapixels, by the trainer's own rule: 1 is 1024 pixels a
    side, any other n is n * 1000.
    """
    written = text(value).lower()
    if re.fullmatch(r"\d{1,9}(\.\d*)?|\.\d+", written):
        side = int(float(written))
        if side < _MEGAPIXELS_BELOW:
            side = 1024 if side == 1 else side * 1000 // 8 * 8
        found = [(side, side)]
        remark = f", and is read as {side}x{side} pixels: write it as WIDTHxHEIGHT"
    else:
        found, remark = [_size(part, value) for part in written.split(",")], ""
    if not all(_STEP <= side <= _LARGEST for size in found for side in size):
        raise _wrong(f"must be between {_STEP} and {_LARGEST} pixels a side", value, remark)
    return tuple(Size(_multiple(width), _multiple(height)) for width, height in found)


def _size(part: str, value: Any) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,9})\s*(?:x\s*(\d{1,9})\s*)?", part)
    if match is None:
        raise _wrong("must be like 512 or 1024x768, or a comma list of these", value)
    return int(match[1]), int(match[2] or match[1])


def _multiple(side: int) -> int:
    return max(_STEP, round(side / _STEP) * _STEP)


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,30}", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _wrong(must: str, value: Any, remark: str = "") -> ValueError:
    if isinstance(value, list | dict):  # which may hold a secret
        return ValueError(f"{must}, not {'a list' if isinstance(value, list) else 'an object'}")
    return ValueError(f"{must}, not {json.dumps(value)}{remark}")
