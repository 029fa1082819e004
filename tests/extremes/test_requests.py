"""A small size of the sweep over requests; `make extremes` runs the whole of it."""

import pytest

from tests.extremes.cases import Case, every_case
from tests.extremes.sweep import batches, run_batch
from tests.extremes.values import TIMES
from tests.extremes.worlds import LaneName, StoreName

SHARE = 100  # one in so many cases; more would take the suite too long


def chosen() -> list[Case]:
    """Returns a few cases of every kind, and every deadline: one of those once stopped a store for good."""
    few = [case for batch in batches(SHARE) for case in batch]
    known = {case.label for case in few}
    return few + [
        case
        for case in every_case()
        if case.lifetime.get(b"stream-expires-at") in TIMES and case.label not in known
    ]


@pytest.mark.parametrize("lane", ["native", "asgi"])
@pytest.mark.parametrize("store", ["memory", "files"])
def test_no_extreme_value_stops_a_server_or_is_read_back_otherwise(
    lane: LaneName, store: StoreName
) -> None:
    run_batch(chosen(), lane, store)


def test_every_case_has_paths_of_its_own() -> None:
    every = list(every_case())
    assert len(every) > 8_000
    paths = [{step.path for step in case.steps if not step.is_control} for case in every]
    assert len(set.union(*paths)) == sum(map(len, paths))


@pytest.mark.parametrize("now", [-(10**15), 10**18])
def test_a_server_works_under_any_clock(now: int) -> None:
    """A machine without a clock of its own begins in 1970; one whose battery is flat may begin anywhere."""
    few = [case for batch in batches(5 * SHARE) for case in batch if not case.lifetime]
    run_batch(few, "asgi", "files", now)
