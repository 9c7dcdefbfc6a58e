"""Types that are first decoded in several threads at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

RACE = """
import sys, threading
sys.setswitchinterval(1e-7)
{made}
kinds = {kinds}
start = threading.Barrier(6)

def work():
    start.wait()
    for kind in kinds:
        try:
            {decode}
        except ValueError:
            pass

threads = [threading.Thread(target=work) for _ in range(6)]
[it.start() for it in threads]
[it.join() for it in threads]
"""

EVENTS = {
    "made": "import msgspec\nfrom clipwatch.domain.written import TYPES",
    "kinds": "list(TYPES.values())",
    "decode": "msgspec.convert({}, kind)",
}
REPLIES = {
    "made": "from clipwatch.executors import messages\nfrom clipwatch.kit.decoding import decoder",
    "kinds": "[messages.Reply, messages.Evaluate, messages.Rescore, messages.FetchReply]",
    "decode": "decoder(kind).decode(b'{}')",
}


@pytest.mark.thorough
@pytest.mark.parametrize("race", [EVENTS, REPLIES], ids=["events", "replies"])
def test_a_type_is_worked_out_once(race: dict[str, str]) -> None:
    """Msgspec would end the process with a segmentation fault where two threads do it at once."""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", RACE.format(**race)], check=False, timeout=60)
        assert done.returncode == 0
