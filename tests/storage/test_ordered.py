"""Searches for the next paths in order."""

import random
from collections.abc import Iterator

import pytest

from durable_streams_server.storage.ordered import STEP, Steps, merged, smallest

LIMIT = 10


def result(search: Steps) -> tuple[int, list[str]]:
    """Returns the number of steps of a search, and what it has found."""
    steps = 0
    while True:
        try:
            next(search)
        except StopIteration as ended:
            return steps, ended.value
        steps += 1


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_smallest_returns_the_first_paths_in_order(order: str) -> None:
    paths = [f"/{number:05}" for number in range(20 * STEP)]
    if order == "descending":
        paths.reverse()
    elif order == "random":
        random.Random(0).shuffle(paths)
    steps, found = result(smallest(paths, "/0", "/00100", LIMIT))
    assert found == [f"/{number:05}" for number in range(101, 101 + LIMIT)]
    assert steps == 20


def test_smallest_compares_a_bounded_number_of_paths_in_each_step() -> None:
    compared = 0

    def many() -> Iterator[str]:
        nonlocal compared
        for number in range(10 * STEP):
            compared += 1
            yield f"/{number}"

    last = 0
    for _ in smallest(many(), "/none", "", LIMIT):
        assert compared - last <= STEP
        last = compared


def test_merged_yields_each_path_of_both_sources_once_in_order() -> None:
    few = ["/a", "/c", "/d", "/x", "/y"]
    many = ["/b", None, "/c", "/e", None]
    every = ["/a", "/b", None, "/c", "/d", "/e", None, "/x", "/y"]
    assert list(merged(few, many, 100)) == every
    for limit in range(8):
        paths = [path for path in merged(few, many, limit) if path is not None]
        assert paths == [path for path in every if path is not None][:limit]


def test_merged_reads_no_further_than_the_limit() -> None:
    def many() -> Iterator[str]:
        yield "/b"
        yield "/c"
        raise AssertionError("read too far")

    assert list(merged(["/a"], many(), 3)) == ["/a", "/b", "/c"]
