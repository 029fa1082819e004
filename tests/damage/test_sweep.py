"""Tests of how the damage sweep reports failures."""

import pytest

from tests.damage import sweep as sweeping
from tests.damage.sweep import sweep


def test_sweep_reports_a_failed_trial_with_the_command_to_repeat_it() -> None:
    reports: list[str] = []
    failures = sweeping._Failures(reports.append)
    failures.add(17, "flip wal/000: Wrong: /json is gone without a word\n")
    assert failures == reports
    text, command = failures[0].splitlines()
    assert text == "seed 17: flip wal/000: Wrong: /json is gone without a word"
    assert command.endswith("python -m tests.damage.sweep 17 1 --show")


def test_worker_process_that_dies_fails_only_its_current_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Dead(sweeping._Worker):
        """A worker whose process ends before its first report."""

        def __init__(self, seeds: list[int], is_shown: bool) -> None:
            super().__init__(seeds, is_shown)
            self.process.kill()

    monkeypatch.setattr(sweeping, "_Worker", Dead)
    assert [failure.splitlines()[0] for failure in sweep(5, 2, 1)] == [
        "seed 5: the process died",
        "seed 6: the process died",
    ]
