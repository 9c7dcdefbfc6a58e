"""What may end an evaluation before its last image: how it is written, and what excludes what."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from clipwatch.domain.deciding import BASE, BEST
from clipwatch.settings.readers import text
from clipwatch.settings.values import Given

_REFERENCE: Final = re.compile(rf"{BEST}|{BASE}|[^@]*@[0-9]{{1,18}}")


def reference(value: Any) -> str:
    """Read "best", "base", @STEP or RUN@STEP."""
    written = text(value)
    if not _REFERENCE.fullmatch(written):
        raise ValueError(f"must be {BEST}, {BASE}, @STEP or RUN@STEP, not {json.dumps(value)}")
    return written


def check_ends(given: Mapping[str, Given]) -> None:
    """Refuse two ways in which an evaluation is to end, or a reference that nobody scores.

    Raises:
        SettingsError: Names the key.
    """
    precision, against = given["precision"], given["decide_against"]
    if given["decide"].value != "difference":
        return
    if precision.value is not None:
        raise precision.error(
            "ends evaluations by their mean, and decide by a difference",
            fix="leave one of them out",
        )
    if against.value == BASE and not given["baseline"].value:
        raise against.error("is base, which is not scored", fix="set baseline to true")
