"""Which results are one curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from clipwatch.domain import strengths
from clipwatch.domain.events import Event, ProtocolContinued, ProtocolDefined
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Run


def with_protocols(
    run: Run, protocols: Sequence[EvaluationProtocol], commits: Mapping[str, str]
) -> tuple[list[str], list[Event]]:
    """Return the digests under which results stand in a run, and what defines them.

    Args:
        run: As it is.
        protocols: One, or one a strength; see `with_protocol`.
        commits: See `with_protocol`.
    """
    several = len(protocols) > 1
    digests, events = [], []
    for it in protocols:
        name = strengths.label(it.adapter_strength) if several else ""
        digest, new = with_protocol(run, it, commits, name)
        digests.append(digest)
        events += new
    return digests, events


def with_protocol(
    run: Run, protocol: EvaluationProtocol, commits: Mapping[str, str], label: str = ""
) -> tuple[str, list[Event]]:
    """Return the digest under which a protocol's results stand in a run, and what defines it.

    The curve of a clipwatch that did not know the files' identity goes on if nothing differs that
    it knew, once, unless it scored a LoRA: it did that with dropout on.

    Args:
        run: As it is.
        protocol: With the identity of its files.
        commits: Of the models from the Hub, as in an evaluation's environment.
        label: What tells it from those that are in use beside it.
    """
    digest = protocol.digest
    if digest in run.protocols:
        return digest, []
    if digest in run.continued:
        return run.continued[digest], []
    unknown = replace(protocol, inputs=()).digest
    known = unknown in run.protocols and unknown not in run.continued.values()
    adapters = any(it.kind == "lora" for it in run.checkpoints.values())
    before = (it.environment for it in run.evaluations.values() if it.protocol == unknown)
    moved = any(it.get(key, commit) != commit for it in before for key, commit in commits.items())
    if known and not adapters and not moved:
        return unknown, [ProtocolContinued(unknown, digest, protocol)]
    return digest, [ProtocolDefined(digest, protocol, label)]


def series_name(run: Run, protocol: str) -> str:
    """Name a protocol's curve: "clipwatch" for a run's first, so that others never mix into it.

    One of several strengths bears it: "clipwatch-strength-0.6". What is named stays so, whatever
    comes later.
    """
    label = run.labels.get(protocol, "")
    if not label:
        first = protocol == next(iter(run.protocols), protocol)
        return "clipwatch" if first else f"clipwatch-{protocol[:8]}"
    name = f"clipwatch-{label.replace(' ', '-')}"
    namesake = next(it for it, its in run.labels.items() if its == label)
    return name if namesake == protocol else f"{name}-{protocol[:8]}"
