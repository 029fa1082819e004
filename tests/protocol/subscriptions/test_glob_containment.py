"""Tests of the containment of glob patterns, which must agree with trying all short paths."""

import itertools
import math
import random
import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from durable_streams_server.protocol.subscriptions.glob_containment import BUDGET, covers
from durable_streams_server.protocol.subscriptions.globs import check_pattern, matches


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (["a"], "a"),
        (["*"], "a"),
        (["*"], "a*"),
        (["**"], "**"),
        (["**"], "a/*/b*/**"),
        (["a/**"], "a"),
        (["a/**"], "a/b/**"),
        (["a/**"], "a/**/**/c"),
        (["**/**"], "**"),
        (["**/a"], "b/**/a"),
        (["a*"], "a*b"),
        (["a*"], "ab*"),
        (["*a*"], "ba*c"),
        (["a/b", "a/*/**/b"], "a/**/b"),
        (["a/b", "a/*/b", "a/*/*/**/b"], "a/**/b"),
        (["*/**"], "**/b"),
        (["*/**"], "**"),
        (["**/*"], "a*/b"),
        (["x/*/y", "x/*/z"], "x/a*/z"),
        (["*a*b*c*"], "*a*b*b*c"),
        (["a/**"], "a/**"),
    ],
)
def test_outer_patterns_cover_inner_pattern(outer: list[str], inner: str) -> None:
    assert covers(outer, inner)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ([], "a"),
        (["a"], "b"),
        (["a"], "*"),
        (["a*"], "*"),
        (["*"], "**"),
        (["*"], "a/*"),
        (["a/*"], "a/**"),
        (["a/*/**"], "a/**"),
        (["a/**/b"], "a/**"),
        (["**/a"], "**/b"),
        (["a/*", "a/*/*"], "a/*/**"),
        (["chat/*"], "chat*"),
        (["user-*/inbox"], "user-*/**"),
        (["*a*b*"], "*b*a*"),
        (["**/*"], "a/**"),  # the inner pattern matches `a/`
        (["a", "a/*/**"], "a/**"),  # the same
        (["a/b", "a/*/*/**/b"], "a/**/b"),
    ],
)
def test_outer_patterns_do_not_cover_inner_pattern(outer: list[str], inner: str) -> None:
    assert not covers(outer, inner)


segments = st.text("ab*", min_size=1, max_size=3).filter(lambda text: "**" not in text)
patterns = st.lists(st.one_of(segments, st.just("*"), st.just("**")), min_size=1, max_size=4).map(
    "/".join
)

#: What the test puts in the place of a star. `c` occurs in no pattern, and so stands for all other characters.
_CHARACTERS = ["", "c", "a", "b", "ac", "cb", "ab", "ba", "aba"]
_SEGMENTS = [[], ["c"], ["a"], ["b"], ["ab"], ["c", "c"], ["b", "a"], ["a", "c", "b"], ["c"] * 5]
_MOST = 5_000


def paths_of(pattern: str) -> Iterator[str]:
    """Yields paths that a pattern matches: all that replacing its stars gives, or a sample of them if there are many."""
    ways: list[list[list[str]]] = []
    for segment in pattern.split("/"):
        if segment == "**":
            ways.append(_SEGMENTS)
        elif segment == "*":
            ways.append([[fill] for fill in _CHARACTERS if fill])
        else:
            parts = segment.split("*")
            ways.append(
                [
                    ["".join(itertools.chain(*zip(parts, (*fill, ""), strict=True)))]
                    for fill in itertools.product(_CHARACTERS, repeat=len(parts) - 1)
                ]
            )
    chosen: Iterable[Iterable[list[str]]] = itertools.product(*ways)
    if math.prod(map(len, ways)) > _MOST:
        source = random.Random(pattern)
        chosen = ([source.choice(way) for way in ways] for _ in range(_MOST))
    for segments in chosen:
        path = "/".join(itertools.chain(*segments))
        yield path
        yield path + "/"


@settings(max_examples=200, deadline=None)
@given(st.lists(patterns, max_size=4), patterns)
@example(["*/**"], "**/b")
@example(["a/b", "a/*/**/b"], "a/**/b")
def test_covered_pattern_matches_no_path_that_outer_patterns_do_not(
    outer: list[str], inner: str
) -> None:
    uncovered = next(
        (
            path
            for path in paths_of(inner)
            if path.strip("/")
            and "//" not in path
            and matches(inner, path)
            and not any(matches(each, path) for each in outer)
        ),
        None,
    )
    assert covers(outer, inner) == (uncovered is None)


@settings(max_examples=300, deadline=None)
@given(patterns, st.data())
def test_pattern_covers_itself_with_stars_replaced(outer: str, data: st.DataObject) -> None:
    """Each `*` becomes characters and each `**` becomes segments, so the result is covered."""
    inner = []
    for segment in outer.split("/"):
        if segment == "**":
            inner += data.draw(st.lists(st.one_of(segments, st.just("**")), max_size=3))
        elif segment == "*":
            inner.append(data.draw(segments))
        else:
            inner.append(segment.replace("*", data.draw(st.sampled_from(["", "a", "b*", "*"]))))
    narrow = "/".join(inner).replace("**a", "*a").replace("**b", "*b")
    if inner and all("**" not in each or each == "**" for each in inner):
        assert covers([outer], narrow)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (["**/a" + "/*" * 60 + "/b"], "**/a" + "/*" * 61),
        (["/".join(["**", "a*"] * 60)], "/".join(["**", "*a"] * 60)),
        (["*a" * 240], "*" + "".join(map(chr, range(0x100, 0x1E0))) + "*"),
        ([f"{n}/**/a/*/*/*/*/*/*/*/b*c" for n in range(64)], "**/a/**/b/*/*/*/**"),
    ],
)
def test_walk_of_costly_patterns_ends_soon_with_no(outer: list[str], inner: str) -> None:
    for pattern in (*outer, inner):
        check_pattern(pattern)
    start = time.perf_counter()
    assert not covers(outer, inner)
    assert time.perf_counter() - start < 1.0  # 10 ms on a slow machine


def test_walk_that_uses_up_its_budget_returns_false() -> None:
    assert covers(["*a*b*"], "*ab*", BUDGET)
    assert not covers(["*a*b*"], "*ab*", 3)
