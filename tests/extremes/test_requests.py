"""A small part of the sweep over requests. `make extremes` runs all of it."""

import pytest

from tests.extremes.cases import Case, every_case
from tests.extremes.sweep import batches, run_batch
from tests.extremes.values import TIMES
from tests.extremes.worlds import LaneName, StoreName

SHARE = 100  # runs one case in 100, because more would take too long


def selected_cases() -> list[Case]:
    """Returns a random part of the cases, and every case with a deadline, because one of those once stopped a store."""
    few = [case for batch in batches(SHARE) for case in batch]
    known = {case.label for case in few}
    return few + [
        case
        for case in every_case()
        if case.lifetime.get(b"stream-expires-at") in TIMES and case.label not in known
    ]


@pytest.mark.parametrize("lane", ["native", "asgi"])
@pytest.mark.parametrize("store", ["memory", "files"])
def test_extreme_values_neither_stop_a_server_nor_change_data(
    lane: LaneName, store: StoreName
) -> None:
    run_batch(selected_cases(), lane, store)


def test_extreme_cases_use_different_stream_paths() -> None:
    every = list(every_case())
    assert len(every) > 8_000
    paths = [{step.path for step in case.steps if not step.is_own} for case in every]
    assert len(set.union(*paths)) == sum(map(len, paths))


@pytest.mark.parametrize("now", [-(10**15), 10**18])
def test_server_works_with_any_clock_time(now: int) -> None:
    """A machine without a clock of its own starts in 1970, and one with a flat battery may start at any time."""
    few = [case for batch in batches(5 * SHARE) for case in batch if not case.lifetime]
    run_batch(few, "asgi", "files", now)
