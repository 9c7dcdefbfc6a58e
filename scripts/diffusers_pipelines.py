"""Write down which pipelines diffusers exports, and how many tokens each reads by default.

    python scripts/diffusers_pipelines.py [--output FILE]

Run it with the diffusers that clipwatch is tested with; settings know from the file which of
SimpleTuner's families can be scored, without importing diffusers.
"""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path

import diffusers

FILE = Path(__file__).parents[1] / "daemon/clipwatch/settings/simpletuner/diffusers.json"


def pipelines() -> dict[str, int | None]:
    """Return pipeline → the default of its max_sequence_length, None for one without."""
    found: dict[str, int | None] = {}
    for name in sorted(dir(diffusers)):
        if name.endswith("Pipeline") and not name.endswith("ModularPipeline"):
            known = inspect.signature(getattr(diffusers, name).__call__).parameters
            default = known["max_sequence_length"].default if "max_sequence_length" in known else 0
            found[name] = default if isinstance(default, int) and default else None
    return found


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=FILE)
    output = parser.parse_args().output
    rows = ",\n".join(f"  {json.dumps(it)}: {json.dumps(n)}" for it, n in pipelines().items())
    head = f'{{\n "diffusers": "{diffusers.__version__}",\n "pipelines": {{\n'
    output.write_text(f"{head}{rows}\n }}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
