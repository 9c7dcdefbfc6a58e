"""How a base's denoiser can be quantised, by SimpleTuner's names (base_model_precision)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Precision:
    """A way to store weights.

    Attributes:
        library: The extra of clipwatch that does it: "quanto", "torchao" or "bitsandbytes".
        kind: Its name for it.
        bits: Of a weight, scales included, about.
    """

    library: str
    kind: str
    bits: float


PRECISIONS = {
    "fp8-quanto": Precision("quanto", "qfloat8", 8.1),
    "int2-quanto": Precision("quanto", "qint2", 2.3),
    "int4-quanto": Precision("quanto", "qint4", 4.3),
    "int8-quanto": Precision("quanto", "qint8", 8.1),
    "fp8-torchao": Precision("torchao", "Float8DynamicActivationFloat8WeightConfig", 8.1),
    "fp8wo-torchao": Precision("torchao", "Float8WeightOnlyConfig", 8.1),
    "int8-torchao": Precision("torchao", "Int8WeightOnlyConfig", 8.1),
    "int8dq-torchao": Precision("torchao", "Int8DynamicActivationInt8WeightConfig", 8.1),
    "int8dq-int4-torchao": Precision("torchao", "Int8DynamicActivationIntxWeightConfig", 8.5),
    "nf4-bnb": Precision("bitsandbytes", "nf4", 4.2),
}
"""Those that clipwatch follows; the trainer has others, of libraries that are not supported."""

MODULES = {"quanto": "optimum.quanto", "torchao": "torchao", "bitsandbytes": "bitsandbytes"}
"""Library → what it is imported as."""


def lacking(name: str) -> str:
    """Return the library that a precision needs and that is not installed; "" if there is none."""
    library = PRECISIONS[name].library
    try:
        return "" if find_spec(MODULES[library]) else library
    except ModuleNotFoundError:  # of the package around it
        return library
