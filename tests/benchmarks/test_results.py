"""Tests of the comparison of this server with its peers, and of the report."""

from pathlib import Path

import pytest

from benchmarks import report, results
from benchmarks.results import Results
from benchmarks.row import Goal, Row, Sample

_RATE = Row("rate", "part", "things a second", "/s", ("memory", "node", "rust"), lambda _: _never, (Goal("memory", None, 0.7, "rust"),))  # fmt: skip
_DELAY = Row("delay", "part", "… how late", "ms", ("files", "node-files"), lambda _: _never, less_is_better=True)  # fmt: skip


def _never(_: int) -> Sample:
    raise AssertionError("nothing is measured here")


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """Returns results with two rows, none of which has a figure of Caddy."""
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    for module in (results, report):
        monkeypatch.setattr(module, "ROWS", (_RATE, _DELAY))
    found = Results()
    for row, figures in ((_RATE, (100.0, 50.0, 400.0)), (_DELAY, (1.0, 3.0))):
        found.begin(row, 1)
        for server, figure in zip(row.servers, figures, strict=True):
            found.add(row, server, Sample(figure))
    return found


def test_results_contain_the_speed_relative_to_each_peer_server(known: Results) -> None:
    rate, delay = known.beside()
    assert (rate.server, rate.speeds, rate.best) == ("memory", {"node": 2.0, "rust": 0.25}, "rust")
    assert (delay.server, delay.speeds, delay.best) == ("files", {"node": 3.0}, "node")


def test_report_shows_whether_this_server_is_ahead_or_behind(known: Results) -> None:
    known.machine = {"cpu": "", "cores": 2, "system": "", "python": "", "node": "", "load": 0}
    shown = report.markdown(known)
    assert "| things a second | memory | 2× |  | 0.25× | **behind Rust** |" in shown
    assert "| things a second … how late | durable | 3× |  |  | ahead of Node |" in shown


def test_report_shows_no_for_a_goal_below_its_aim(known: Results) -> None:
    (verdict,) = known.verdicts()
    assert (verdict.found, verdict.aim) == (0.25, False)
    known.machine = {"cpu": "", "cores": 2, "system": "", "python": "", "node": "", "load": 0}
    expected = "| things a second: this, memory relative to Rust, memory | 0.25× |  | NO ≥ 0.7× |"
    assert expected in report.markdown(known)
