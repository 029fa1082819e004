"""The complaints of `make overload`, and a short run with a few slow readers. `make overload` itself takes some minutes."""

from dataclasses import replace

import pytest

from . import loads, slow
from .loads import KINDS, Kind, Outcome
from .serving import MIB, allow_many_sockets, running

KIND = Kind("small appends", (), "x", 1, 1, held=MIB)
SLOW = slow.Outcome(100, 0, MIB, 0, 10 * MIB, 0.1)


def make_outcome(over: float = 95, after: float = 100, peak: int = 0) -> Outcome:
    """Returns the results of three rounds, one of which was slower than the others."""
    return Outcome([100, 100, 100], [over, over, 1], 0, [after, after, 1], 0, peak)


def test_server_that_keeps_its_capacity_has_no_complaints() -> None:
    assert [*make_outcome().complaints(KIND)] == []
    assert [*make_outcome(over=80, after=80, peak=loads.GROWTH + MIB).complaints(KIND)] == []
    assert [*SLOW.complaints()] == []


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (make_outcome(over=79), "small appends: only 79% of the capacity remains"),
        (
            make_outcome(after=50),
            "small appends: the server has only 50% of its capacity afterwards",
        ),
        (make_outcome(peak=loads.GROWTH + 2 * MIB), "small appends: memory grows by 130 MiB"),
    ],
)
def test_each_fault_at_overload_is_a_complaint(found: Outcome, complaint: str) -> None:
    assert [*found.complaints(KIND)] == [complaint]


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (replace(SLOW, peak=slow.PAGES + 100 * slow.EACH + MIB), "memory grows by 260 MiB"),
        (replace(SLOW, taken=100), "they have got only 100 bytes"),
    ],
)
def test_each_fault_with_slow_readers_is_a_complaint(found: slow.Outcome, complaint: str) -> None:
    (said,) = found.complaints()
    assert said == f"slow readers: {complaint}"


def test_overload_has_five_times_as_many_clients_and_each_kind_has_its_own_title() -> None:
    assert loads.FACTOR == 5
    assert len({kind.title for kind in KINDS}) == len(KINDS) >= 4


def test_a_few_slow_readers_cost_a_bounded_amount_of_memory() -> None:
    allow_many_sockets()
    with running() as server:
        found = slow.read_slowly(server, readers=200, seconds=1.0)
    assert [*found.complaints()] == [], found
    assert found.lost == 0
