"""Runs a siege of a few seconds. `make hostile` runs one of a minute."""

import pytest

from benchmarks.stall.probe import Delays

from .kinds import KINDS
from .siege import CACHES, Report, besiege, repeat_command

SECONDS = 8.0
#: Maximum seconds of a cheap read. It is more than `make hostile` allows, because the machine may run other tests at the same time.
LONGEST = 2.0


def test_every_kind_of_hostile_client_has_a_docstring() -> None:
    assert len(KINDS) >= 20
    assert all(kind.__doc__ for kind in KINDS)


def make_report(
    lives: bool = True, bad: int = 0, longest: float = 0.01, log: str = "", after: int = 0
) -> Report:
    return Report(
        0, 0, after, lives, Delays(longest, 0.01, 100, bad), log, {"sip": (1, {"200": 1})}
    )


def test_report_of_a_run_without_harm_has_no_complaints() -> None:
    assert make_report(log="2026-11-26 WARNING 5 connections are refused\n").complaints(0.5) == []


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (make_report(lives=False), "the server has ended"),
        (make_report(bad=3), "3 cheap reads were refused"),
        (make_report(longest=0.7), "a cheap read took 0.70 s"),
        (
            make_report(log="ERROR a request failed\nTraceback (most recent call last):\n"),
            "traceback",
        ),
        (make_report(log="no stream /v1/stream/\x9b2J\n"), "control characters"),
        (make_report(log="no stream /v1/stream/\x1b[2J\n"), "control characters"),
        (make_report(after=CACHES + 1), "memory has not come back"),
    ],
)
def test_report_complains_about_each_kind_of_harm(found: Report, complaint: str) -> None:
    (said,) = found.complaints(0.5)
    assert complaint in said
    assert "1 × 200" in found.table()


@pytest.mark.timeout(240)
def test_server_survives_all_kinds_of_hostile_clients_at_once() -> None:
    found = besiege(SECONDS)
    shown = f"{found.table()}\nrepeat with: {repeat_command(SECONDS)}"
    assert found.complaints(LONGEST) == [], shown
    assert all(rounds for rounds, _ in found.done.values()), shown


def test_repeat_command_names_the_kinds_of_hostile_clients() -> None:
    assert repeat_command(8.0) == "make hostile SECONDS=8"
    named = " ".join(KINDS[number].__name__ for number in (0, 2))
    assert repeat_command(60.0, [0, 2]) == f'make hostile SECONDS=60 KINDS="{named}"'
