"""Random damages of the catalog's files, in a process of their own, since one of them might end it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
TRIALS = 60


def test_no_damage_of_the_catalog_gives_a_wrong_answer_or_ends_the_process() -> None:
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
