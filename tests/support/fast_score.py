"""The program `clipwatch`, whose `score` has the fast evaluator and models that are not there."""

from __future__ import annotations

import sys

from clipwatch.cli import main
from clipwatch.executors import named
from clipwatch.tasks import score
from fast_daemon import fast
from known import Known

if __name__ == "__main__":
    named.load = fast
    vars(score)["Identities"] = Known
    sys.exit(main(prog_name="clipwatch"))
