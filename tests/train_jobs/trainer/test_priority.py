"""A training worker gives way to what answers people, and never takes more than it was given."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from train_jobs.trainer.priority import NICENESS

SHOWN = """
import os, threading
from train_jobs.trainer.priority import be_nice
ended = threading.Event()
threading.Thread(target=ended.wait, daemon=True).start()
be_nice()
print({os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir("/proc/self/task")})
"""


@pytest.mark.parametrize("given", [NICENESS - 5, NICENESS + 5])
def test_it_lowers_its_priority_and_never_raises_it(given: int) -> None:
    if os.nice(0) > given:
        pytest.skip("the tests run at a lower priority")
    command = ["nice", "-n", str(given - os.nice(0)), sys.executable, "-c", SHOWN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == str({max(given, NICENESS)})
