"""How events stand in the log: as JSON that every version of clipwatch reads.

One form serves all: in it the scorer that decides stands apart from the others, as it did in the
first logs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from clipwatch.domain.events import (
    TYPES,
    EvaluationCompleted,
    Event,
    ImagesScored,
    ProtocolContinued,
    ProtocolDefined,
)
from clipwatch.domain.further import ImagesRescored
from clipwatch.domain.packed import unpacked
from clipwatch.domain.protocol import upgraded

for _kind in TYPES.values():
    # msgspec works a type out at its first use, and crashes where two threads do so at once
    msgspec.json.Decoder(_kind)


def encode(event: Event) -> tuple[str, str]:
    """Return (type name, JSON text), in a form that every version of clipwatch reads."""
    told: Any = event
    match event:
        case ProtocolDefined() | ProtocolContinued():
            told = msgspec.to_builtins(event) | {"protocol": event.protocol.written()}
        case ImagesScored():
            told = msgspec.to_builtins(event)
            told["images"] = [_image(image) for image in told["images"]]
        case EvaluationCompleted():
            told = _apart(msgspec.to_builtins(event), "clip")
    return type(event).__name__, msgspec.json.encode(told).decode()


def decode(type_name: str, data: str) -> Event:
    """Read an event back.

    Raises:
        KeyError: A type that this version does not know.
        msgspec.ValidationError: Data that is not what the type says.
    """
    kind = TYPES[type_name]
    together = _TOGETHER.get(kind)
    written = together and _together(together, data)
    try:
        event: Event = (
            msgspec.convert(written, kind) if together else msgspec.json.decode(data, type=kind)
        )
    except msgspec.ValidationError:
        event = _of_later(kind, written if together else msgspec.json.decode(data))
    return event


def _of_later(type_: type[Any], written: Any) -> Any:
    """Read a value of which some kinds are none that this version knows.

    Raises:
        msgspec.ValidationError: That is not all that is wrong with it.
    """
    kept: dict[str, Any] = {}
    for name, hint in get_type_hints(type_).items() if isinstance(written, dict) else ():
        found = written.get(name)
        if get_origin(hint) is Literal and isinstance(found, str) and found not in get_args(hint):
            kept[name], written[name] = found, get_args(hint)[0]
        elif is_dataclass(hint) and isinstance(hint, type) and name in written:
            kept[name] = _of_later(hint, found)
    return replace(msgspec.convert(written, type_), **kept)


def _together(together: Callable[[Any], Any], data: str) -> Any:
    try:
        return together(msgspec.json.decode(data, type=dict[str, Any]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise msgspec.ValidationError(f"{error!r} in {data:.60}") from error


def _apart(told: dict[str, Any], first: str) -> dict[str, Any]:
    """Write scores as the first logs did: the scorer that decides apart from the others."""
    scores = told.pop("scores")
    return told | {first: scores.pop(""), "others": scores}


def _image(told: dict[str, Any]) -> dict[str, Any]:
    """Write an image; few have answers."""
    found = _apart(told, "score")
    return found if found["answers"] else {k: it for k, it in found.items() if k != "answers"}


def _joined(told: dict[str, Any], first: str) -> dict[str, Any]:
    return told | {"scores": {"": told[first], **told.get("others", {})}}


def _of_protocol(told: dict[str, Any]) -> dict[str, Any]:
    return told | {"protocol": upgraded(told["protocol"])}


def _of_images(told: dict[str, Any]) -> dict[str, Any]:
    images = unpacked(told, "images")["images"]
    return told | {"images": [_joined(image, "score") for image in images]}


def _of_rescored(told: dict[str, Any]) -> dict[str, Any]:
    return unpacked(told, "scores")


def _of_summaries(told: dict[str, Any]) -> dict[str, Any]:
    return _joined(told, "clip")


_TOGETHER: dict[type[Any], Callable[[dict[str, Any]], dict[str, Any]]] = {
    ProtocolDefined: _of_protocol,
    ProtocolContinued: _of_protocol,
    ImagesScored: _of_images,
    ImagesRescored: _of_rescored,
    EvaluationCompleted: _of_summaries,
}
"""How what is written of an event becomes its fields, where one scorer stands apart."""
