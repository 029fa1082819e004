"""Plants bugs in copies of the source, one at a time, and finds out which test fails.

`tests/crash/planted.py` and `tests/delivery/planted.py` list the bugs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = "src/durable_streams_server"


class Plant(NamedTuple):
    """One bug.

    Attributes:
        trap: the number of the trap in docs/traps.md, or the rule that the bug breaks.
        what: the bug in words.
        file: the path of the file that gets the bug.
        old: the text that the bug replaces, which must occur once in the file.
        new: the text of the bug.
        test: the test that must fail, or an empty string if the hunt must find the bug.
    """

    trap: int | str
    what: str
    file: str
    old: str
    new: str
    test: str = ""


class Helper(NamedTuple):
    """A second change that some bugs need.

    Attributes:
        file: the path of the file to change.
        old: the text to replace, which must occur once in the file.
        new: the text to put in its place.
    """

    file: str
    old: str
    new: str


def find_bug(plant: Plant, hunt: Sequence[str], helper: Helper | None = None) -> str | None:
    """Plants a bug in a copy of the source, and returns the test or seed that failed, or None.

    Args:
        plant: the bug.
        hunt: the module that hunts for bugs without a test of their own, and its arguments.
        helper: the second change that the bug needs, if any.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("src", "tests", "pyproject.toml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        replace(copy / plant.file, plant.old, plant.new)
        if helper is not None:
            replace(copy / helper.file, helper.old, helper.new)
        environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}:{copy}"}
        if plant.test:
            command = [sys.executable, "-m", "pytest", "-q", "-x", plant.test]
        else:
            command = [sys.executable, "-m", *hunt]
        shown = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if shown.returncode == 0:
        return None
    match = re.search(r"^FAILED (\S+)|^(seed \d+) fails", shown.stdout, re.M)
    if match is None:  # the source does not even run, so the run shows nothing about the bug
        raise SystemExit(f"{plant.what}: {shown.stderr.strip().splitlines()[-1]}")
    return match[1] or match[2]


def replace(file: Path, old: str, new: str) -> None:
    """Replaces a text that must occur once in a file."""
    text = file.read_text()
    if text.count(old) != 1:
        raise SystemExit(
            f"{file.name}: what is to be replaced stands there {text.count(old)} times"
        )
    file.write_text(text.replace(old, new))


def plant_all(
    plants: Sequence[Plant],
    hunt: Sequence[str],
    traps: Sequence[str],
    helpers: Mapping[int | str, Helper] = MappingProxyType({}),
) -> int:
    """Plants each bug, prints a table row for it, and returns how many bugs went unnoticed.

    Args:
        plants: the bugs.
        hunt: the module that hunts for bugs without a test of their own, and its arguments.
        traps: the traps whose bugs are planted; all if empty.
        helpers: the second changes that some bugs need, by trap.
    """
    missed = 0
    for plant in plants:
        if traps and str(plant.trap) not in traps:
            continue
        finder = find_bug(plant, hunt, helpers.get(plant.trap))
        missed += finder is None
        sys.stdout.write(f"| {plant.trap} | {plant.what} | {finder or 'NOTHING'} |\n")
        sys.stdout.flush()
    return missed
