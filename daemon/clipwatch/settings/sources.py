"""Every place a value can come from, laid over each other: the most specific one counts."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

from clipwatch.kit import secrets
from clipwatch.kit.textfiles import plain
from clipwatch.settings import jsonc, readers
from clipwatch.settings.settings import KEYS
from clipwatch.settings.values import Given

OWN = "clipwatch"
OWN_FILE = "clipwatch.json"
SCORERS = "scorers"
"""The object of further scorers, {"siglip": "google/siglip2-base-patch16-224"}."""

_OBJECTS = {SCORERS, *(name.partition(".")[0] for name in KEYS if "." in name)}
_PREFIX = "CLIPWATCH_"
_ONE = "keep one of them"
_CALLS = ("config", "runs")
_OBJECT, _LIKE = "must be an object of options", 'write it like {"name": "value"}'
_VARIABLE = re.compile(r"\{env:([^{}]*)\}")
# what Kubernetes tells of Services called clipwatch or clipwatch-anything, by name and value
_SERVICE = re.compile(
    r"CLIPWATCH_(\w+_)?(SERVICE_HOST=[\da-fA-F.:]+|SERVICE_PORT(_\w+)?=\d+"
    r"|PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*)"
)
SPELLINGS = {"devices": "device"}
"""Other names of keys."""

OPTION = re.compile(r"[\w.-]{1,100}")
"""What an option of an object may be called."""

Named = tuple[str, Given]


def collect(
    document: jsonc.Document,
    trainers: Iterator[Named],
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    trackers: Collection[str],
) -> dict[str, Given]:
    """Return the most specific value of every key; members of objects as "wandb.entity".

    `document` is the trainer's configuration, or a clipwatch.json; `trainers` are the keys that the
    former has for clipwatch, too.

    A flag's value may be a Given, which says where else in the call it stands.

    Precedence: flags, environment, the object "clipwatch" in config.json, clipwatch.json beside
    it, the trainer's keys, defaults.

    Raises:
        SettingsError: A file cannot be read, a key of ours is unknown, or a value is wrong.
    """
    environ = dict(environ)  # os.environ cannot be asked for every text
    config = document.file
    beside = config.with_name(OWN_FILE)
    free, objects = {SCORERS, *trackers}, _OBJECTS.union(trackers)
    named = config if document.there else None
    found = {name: Given(key.default, "default", name, named) for name, key in KEYS.items()}
    if config.name == OWN_FILE:  # no trainer's file at all: a training script of one's own
        layers = [_own(document, environ, objects)]
    else:
        layers = [trainers, _object(document, environ, objects)]
        if os.path.lexists(beside):  # a link to nothing is a mistake to tell
            layers.insert(1, _own(jsonc.read(beside), environ, objects))
    layers += [_environment(environ, objects), _flags(flags, objects)]
    for layer in layers:
        found.update(_accepted(layer, free, objects))
    return found


def beneath(given: Mapping[str, Given], layer: Iterable[Named]) -> dict[str, Given]:
    """Return what a layer says of the keys that nobody set.

    Raises:
        SettingsError: A key is unknown, or a value is wrong.
    """
    accepted = _accepted(layer, (), _OBJECTS)
    return {name: it for name, it in accepted.items() if given[name].source == "default"}


def _object(
    document: jsonc.Document, environ: Mapping[str, str], objects: Collection[str]
) -> Iterator[Named]:
    """Yield what stands in the object "clipwatch" of the trainer's file."""
    for name, given in members(document, (), document.values, environ):
        if name == OWN and given.value is not None:
            if not isinstance(given.value, dict):
                like = 'write it like "clipwatch": {"device": "cuda:1"}'
                raise given.error("must be an object", fix=like)
            yield from _own(document, environ, objects, (given.key,))


def _own(
    document: jsonc.Document,
    environ: Mapping[str, str],
    objects: Collection[str],
    path: tuple[str, ...] = (),
) -> Iterator[Named]:
    """Yield the members of an object that is all ours, those of objects in it one by one."""
    values = reduce(dict.__getitem__, path, document.values)
    for name, given in members(document, path, values, environ):
        if name in objects and isinstance(given.value, dict):
            inside = (*path, given.key)
            for option, inner in members(document, inside, values[given.key], environ):
                dotted = f"{name}.{option}"
                yield dotted, replace(inner, key=dotted)
        else:
            yield name, given


def members(
    document: jsonc.Document,
    path: tuple[str, ...],
    values: Mapping[str, Any],
    environ: Mapping[str, str],
) -> Iterator[Named]:
    """Yield the members of an object in a file; `--key` and `key` are the same.

    Args:
        document: The file.
        path: Where in it the object stands, () for the whole.
        values: The object itself.
        environ: What `{env:NAME}` in a text stands for.
    """
    environ = {**environ, **document.variables}
    for key, value in values.items():
        line = document.lines[*path, key]
        source = plain(f"{document.file.name}:{line}")
        secret = any(map(secrets.named, _VARIABLE.findall(json.dumps(value))))
        given = Given(_replaced(value, environ), source, key, document.file, line, secret)
        yield key.strip().lstrip("-"), given


def _replaced(value: Any, environ: Mapping[str, str]) -> Any:
    """Replace `{env:NAME}` in texts by the variable, or by nothing when it is not set."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: environ.get(match[1].strip(), ""), value).strip()
    if isinstance(value, list):
        return [_replaced(item, environ) for item in value]
    if isinstance(value, dict):
        return {key: _replaced(item, environ) for key, item in value.items()}
    return value


def _environment(environ: Mapping[str, str], objects: Collection[str]) -> Iterator[Named]:
    """Yield the variables CLIPWATCH_<KEY>; those of objects hold JSON."""
    for variable in sorted(environ):
        name = variable.removeprefix(_PREFIX).lower()
        service = _SERVICE.fullmatch(f"{variable}={environ[variable]}")
        # --config and --runs name the files themselves
        if variable.startswith(_PREFIX) and name not in _CALLS and not service:
            given = Given(environ[variable].strip(), variable, variable)
            yield from _options(name, given) if name in objects else [(name, given)]


def _flags(flags: Mapping[str, Any], objects: Collection[str]) -> Iterator[Named]:
    for name, value in flags.items():
        key = KEYS.get(name)
        written = (key and key.flag) or "--" + name.replace("_", "-")
        given = value if isinstance(value, Given) else Given(value, written, written)
        yield from _options(name, given) if name in objects else [(name, given)]


def _options(name: str, given: Given) -> Iterator[Named]:
    if not given.value:
        return
    try:
        options = json.loads(given.value) if isinstance(given.value, str) else given.value
        for option, value in options.items():
            yield f"{name}.{option}", given.but(value)
    except (AttributeError, ValueError, RecursionError):
        raise given.error(_OBJECT, fix=_LIKE) from None


def _accepted(
    layer: Iterable[Named], free: Collection[str], objects: Collection[str]
) -> dict[str, Given]:
    """Return the typed values of one layer; of a name that comes twice the later counts.

    Those objects that are `free` hold texts under names of the user's, all others keys of ours.
    """
    accepted: dict[str, Given] = {}
    spelled: dict[str, str] = {}
    for written, given in layer:
        name = SPELLINGS.get(written, written)
        key, (outer, _, option) = KEYS.get(name), name.partition(".")
        if given.value is None or (given.value == "" and not (key and key.blank)):
            continue
        untold = replace(given, secret=False)  # of which the value is not told
        if spelled.setdefault(name, written) != written:
            raise untold.error(f"is the same as {spelled[name]}, which is set as well", fix=_ONE)
        if name in objects:
            raise untold.error(_OBJECT, fix=_LIKE)
        if key is None and not (outer in free and OPTION.fullmatch(option)):
            raise untold.error("is not a setting of clipwatch", fix=_meant(name, [*KEYS, *objects]))
        if key and given.secret and not key.secret:
            raise untold.error(
                "is shown and logged, and takes a variable whose name looks like a secret's",
                fix="write the value itself, or give the variable another name",
            )
        secret = given.secret or (key.secret if key else secrets.named(option))
        entry = replace(given, secret=secret)
        try:
            value = key.read(entry.value) if key else readers.option(entry.value)
        except ValueError as error:
            raise entry.error(str(error)) from None
        accepted[name] = entry.but(value)
    return accepted


def _meant(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""
