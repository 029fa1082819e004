"""Runs a soak of half a minute. `make soak` runs one of ten minutes."""

from pathlib import Path

import pytest

from .soak import Soak, repeat_command

SECONDS = 24.0
SEED = 1


@pytest.mark.timeout(300)
def test_restarts_under_mixed_load_lose_nothing_and_leak_nothing(tmp_path: Path) -> None:
    lines: list[str] = []
    report = Soak(tmp_path, SECONDS, SEED, lines.append).run()
    shown = "\n".join([*lines, report.table(), f"repeat with: {repeat_command(SECONDS, SEED)}"])
    assert report.complaints() == [], shown
    stopped, killed = report.restarts
    assert stopped >= 1, shown
    assert killed == 1, shown
    assert report.counts["appends acknowledged"] > 100, shown
    assert report.counts["values read live"] > 100, shown
