"""A small run of the catalog's damage trials, in a process of its own because a trial might crash it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
TRIALS = 60


def test_damaged_catalog_never_crashes_or_returns_wrong_answer() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.storage.files.catalog.damage", "0", str(TRIALS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    assert done.stdout.count("trial ") == TRIALS
