"""The protocol of a series, as plain values for the trackers that compare runs by such."""

from __future__ import annotations

from dataclasses import fields

from clipwatch.results.series import Series
from clipwatch_adapters.shared.numbers import Names


def hparams(series: Series, names: Names) -> dict[str, float | str]:
    """Return what of the protocol is one value: prompts as their number, and the digest of all.

    What is not given is left out, and what is as usual, but for the strength.
    """
    protocol = series.protocol
    known = {
        it.name: value
        for it in fields(protocol)
        if (value := getattr(protocol, it.name)) != it.default or it.name == "adapter_strength"
    }
    known |= {"prompts": len(protocol.prompts), "protocol": protocol.digest, "unit": series.unit}
    for scorer in protocol.scorers:
        known[names.group(scorer.name) if scorer.name else "scorer"] = str(scorer)
    plain = {name: it for name, it in known.items() if isinstance(it, int | float | str)}
    return {name: str(it) if isinstance(it, bool) else it for name, it in plain.items() if it != ""}
