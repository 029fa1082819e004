"""Tests of glob patterns, of an index that must agree with a naive matcher, and of the cost of a lookup."""

import gc
import re
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.subscriptions.globs import Globs, check_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("a", "a"),
        ("a/b", "a/b"),
        ("*", "a"),
        ("*", "a.b c"),
        ("a/*", "a/b"),
        ("*/b", "a/b"),
        ("**", "a"),
        ("**", "a/b/c"),
        ("a/**", "a"),
        ("a/**", "a/b"),
        ("a/**", "a/b/c"),
        ("**/c", "c"),
        ("**/c", "a/b/c"),
        ("**/c", "c/c"),
        ("a/**/c", "a/c"),
        ("a/**/c", "a/b/b/c"),
        ("a/**/c", "a/c/c"),
        ("**/**", "a"),
        ("**/b/**", "b"),
        ("**/b/**", "a/b/c"),
        ("*/**", "a"),
        ("user-*", "user-1"),
        ("user-*", "user-"),
        ("*.log", "a.b.log"),
        ("a*c", "abc"),
        ("a*c", "ac"),
        ("a*b*c", "a-b-b-c"),
        ("*b*", "b"),
        ("a*a", "aa"),
        ("x/*-*/y", "x/1-2/y"),
        ("a+(b", "a+(b"),
        ("[ab]?", "[ab]?"),
        ("\N{SNOWMAN}*", "\N{SNOWMAN}\N{COMET}"),
    ],
)
def test_pattern_matches_path(pattern: str, path: str) -> None:
    assert matches(check_pattern(pattern), path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("a", "b"),
        ("a", "A"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("*", "a/b"),
        ("a/*", "a"),
        ("a/*", "a/"),
        ("a/*", "a/b/c"),
        ("**/c", "a/b"),
        ("**/c", "a/xc"),
        ("a/**/c", "a/b"),
        ("a/**", "ab"),
        ("*/**", ""),
        ("user-*", "user"),
        ("user-*", "user-1/x"),
        ("a*a", "a"),
        ("*ab*ab", "xab"),
        ("a*b*c", "a-c-b"),
        ("a.c", "abc"),
        ("[ab]", "a"),
    ],
)
def test_pattern_does_not_match_path(pattern: str, path: str) -> None:
    assert not matches(check_pattern(pattern), path)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/../b",
        "a/./*",
        "a**",
        "**a/b",
        "***",
        "a\0",
        "a\n*",
        "\ud800",
        "a" * 500,
        "é" * 250,
    ],
)
def test_pattern_that_can_match_no_path_is_refused(pattern: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_pattern(pattern)
    assert caught.value.code == "INVALID_PATTERN"


def test_matching_yields_the_items_of_every_matching_pattern() -> None:
    globs: Globs[int] = Globs()
    for number, pattern in enumerate(["a/b", "a/*", "a/**", "**", "*/b", "**/b", "a/b*", "x/**"]):
        globs.add(pattern, number)
    globs.add("a/*", 10)
    assert sorted(globs.matching("a/b")) == [0, 1, 2, 3, 4, 5, 6, 10]
    assert sorted(globs.matching("a")) == [2, 3]
    assert list(globs.matching("x")) == [3, 7] or list(globs.matching("x")) == [7, 3]


def test_pattern_that_matches_in_many_ways_yields_its_item_once() -> None:
    globs: Globs[str] = Globs()
    globs.add("**/a/**/a/**", "once")
    assert list(globs.matching("/".join("a" * 30))) == ["once"]


def test_removing_all_items_leaves_an_empty_trie() -> None:
    globs: Globs[int] = Globs()
    patterns = ["a/b/c", "a/b", "a/*", "a/**", "**/a/**", "a/x*/**", "**", "*"]
    for number, pattern in enumerate(patterns):
        globs.add(pattern, number)
    globs.add("a/b", 100)
    for number, pattern in enumerate(patterns):
        globs.remove(pattern, number)
        assert number not in list(globs.matching("a/b"))
    assert list(globs.matching("a/b")) == [100]
    globs.remove("a/b", 100)
    assert globs._root.is_empty


def test_removing_a_missing_item_changes_nothing() -> None:
    globs: Globs[int] = Globs()
    globs.add("a/b", 1)
    globs.remove("a/b", 2)
    globs.remove("a/b/c/*", 1)
    globs.remove("**", 1)
    assert list(globs.matching("a/b")) == [1]
    globs.remove("a/b", 1)
    assert globs._root.is_empty


segments = st.text("ab*", min_size=1, max_size=4).filter(lambda text: "**" not in text)
patterns = st.lists(st.one_of(segments, st.just("**")), min_size=1, max_size=5).map("/".join)
paths = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=5).map("/".join)


def naive(pattern: str) -> re.Pattern[str]:
    """Returns one regular expression for a whole pattern. It matches paths with a slash after each segment."""
    parts = []
    for segment in pattern.split("/"):
        if segment == "**":
            parts.append("(?:[^/]+/)*")
        elif segment == "*":
            parts.append("[^/]+/")
        else:
            parts.append(re.escape(segment).replace(r"\*", "[^/]*") + "/")
    return re.compile("".join(parts))


@given(st.lists(patterns, max_size=8), st.lists(paths, min_size=1, max_size=4), st.data())
def test_pattern_index_agrees_with_a_naive_matcher(
    some: list[str], paths: list[str], data: st.DataObject
) -> None:
    globs: Globs[int] = Globs()
    for number, pattern in enumerate(some):
        globs.add(pattern, number)
    gone = data.draw(st.sets(st.integers(0, len(some) - 1)) if some else st.just(set[int]()))
    for number in gone:
        globs.remove(some[number], number)
    kept = [(n, pattern) for n, pattern in enumerate(some) if n not in gone]
    for path in paths:
        expected = [n for n, pattern in kept if naive(pattern).fullmatch(path + "/")]
        assert sorted(globs.matching(path)) == expected
        assert [n for n, pattern in kept if matches(pattern, path)] == expected
    for number, pattern in kept:
        globs.remove(pattern, number)
    assert globs._root.is_empty


def calls_of(function: Callable[[], object]) -> int:
    """Returns the number of calls that a function makes."""
    count = 0

    def count_call(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # a garbage collection would call destructors of other tests' objects
    sys.setprofile(count_call)
    try:
        function()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


def found(globs: Globs[int]) -> list[int]:
    """Returns the items that match `events/x`."""
    return list(globs.matching("events/x"))


def test_lookup_cost_does_not_depend_on_patterns_that_do_not_match() -> None:
    few: Globs[int] = Globs()
    many: Globs[int] = Globs()
    for globs, count in ((few, 3), (many, 10_000)):
        for number in range(count):
            globs.add(f"events/{number}/**", number)
            globs.add(f"tenant-{number}/*", number)
        globs.add("events/*", -1)
    assert found(few) == found(many) == [-1]
    costs = [calls_of(partial(found, globs)) for globs in (few, many)]
    assert costs[1] == costs[0]


def test_pattern_with_many_stars_is_matched_without_backtracking() -> None:
    """A matcher with backtracking would take exponential time here."""
    for pattern in ("*a" * 120 + "*b", "*a*" + "a*" * 120 + "b", "x" + "*a" * 120 + "*b*c"):
        assert not matches(check_pattern(pattern), "a" * 480)
    assert matches(check_pattern("*a" * 120 + "*b"), "a" * 479 + "b")
    deep = "/".join(["**", "a"] * 60 + ["b"])
    assert not matches(check_pattern(deep), "/".join("a" * 240))
