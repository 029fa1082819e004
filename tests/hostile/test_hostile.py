"""A siege of a few seconds; `make hostile` runs one of a minute."""

import pytest

from benchmarks.stall.probe import Delays

from .kinds import KINDS
from .siege import CACHES, Report, besiege

SECONDS = 8.0
#: Seconds that a cheap read may take here. The machine that runs the tests may be busy with others; `make hostile` is stricter.
LONGEST = 2.0


def test_there_are_twenty_kinds_and_each_says_what_it_does() -> None:
    assert len(KINDS) >= 20
    assert all(kind.__doc__ for kind in KINDS)


def report(
    lives: bool = True, bad: int = 0, longest: float = 0.01, log: str = "", after: int = 0
) -> Report:
    return Report(
        0, 0, after, lives, Delays(longest, 0.01, 100, bad), log, {"sip": (1, {"200": 1})}
    )


def test_siege_that_does_no_harm_has_no_complaints() -> None:
    assert report(log="2026-11-26 WARNING 5 connections are refused\n").complaints(0.5) == []


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (report(lives=False), "the server has ended"),
        (report(bad=3), "3 cheap reads were refused"),
        (report(longest=0.7), "a cheap read took 0.70 s"),
        (report(log="ERROR a request failed\nTraceback (most recent call last):\n"), "traceback"),
        (report(log="no stream /v1/stream/\x9b2J\n"), "control characters"),
        (report(log="no stream /v1/stream/\x1b[2J\n"), "control characters"),
        (report(after=CACHES + 1), "memory has not come back"),
    ],
)
def test_siege_complains_of_each_harm(found: Report, complaint: str) -> None:
    (said,) = found.complaints(0.5)
    assert complaint in said
    assert "1 × 200" in found.table()


@pytest.mark.timeout(240)
def test_server_survives_every_kind_of_hostile_client_at_once() -> None:
    found = besiege(SECONDS)
    assert found.complaints(LONGEST) == [], found.table()
    assert all(rounds for rounds, _ in found.done.values()), found.table()
