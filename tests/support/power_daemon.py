"""A training with daemons beside it, for power to be lost: one that ends, one killed, one more."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fast_world import Training

if __name__ == "__main__":
    training = Training(Path(sys.argv[1]), own={"stage": "copy"})
    training.train()
    training.train()
    training.finish()
    daemon = training.start("live")
    training.train()
    training.train()
    while len(training.committed()) < 22:  # amid the third checkpoint
        time.sleep(0.001)
    daemon.kill()
    daemon.join()
    training.train()
    training.finish()
