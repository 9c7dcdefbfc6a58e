"""Where the tree's files lie."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
DATA = ROOT / "tests" / "data"
LOGS = DATA / "logs"


def python_path() -> str:
    """Return the PYTHONPATH of a child that needs the kits, and imports all else as we do."""
    return os.pathsep.join([str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
