"""Decides whether some glob patterns match every path that another glob pattern matches.

A token that may read `chat/*` and `news/**` may subscribe to a pattern only if its own patterns cover the whole pattern, also for
streams that do not exist yet.

Each pattern becomes a nondeterministic automaton over the characters of a path, with a `/` after each segment. The set of active
states is one integer with a bit for each state, so a step takes a few operations on integers. `covers` walks through all pairs of
sets that one string can reach, in the automaton of the inner pattern and in that of all outer patterns, and looks for a string that
only the inner pattern accepts. Patterns come from clients, and few of them could take exponential time, so the walk has a budget.
"""

from collections.abc import Iterable
from typing import Final

from .globs import ANY, ONE

#: Units of work that one call may take. A unit is a step over up to 1,024 states, about 2 us.
BUDGET: Final = 4_000

_OTHER: Final = "\0"  # stands for all characters that occur in no pattern; no path contains it
_UNIT_STATES: Final = 1024


def covers(outer: Iterable[str], inner: str, budget: int = BUDGET) -> bool:
    """Returns whether each path that `inner` matches is matched by at least one of the outer patterns.

    False may also mean that the walk has used up its budget. True is always proven.

    Args:
        outer: patterns that `check_pattern` accepts.
        inner: a pattern that `check_pattern` accepts.
        budget: the most units of work.
    """
    within, around = _Automaton(), _Automaton()
    within.add(inner)
    for pattern in dict.fromkeys(outer):
        around.add(pattern)
    alphabet = [*{*within.literals, *around.literals, _OTHER} - {"/"}]
    units = 1 + (within.size + around.size) // _UNIT_STATES
    first = (within.start, around.start)
    waiting, seen = [first], {first}
    while waiting:
        inside, outside = waiting.pop()
        symbols = alphabet if inside & within.free else within.symbols(inside)
        for symbol in symbols if (inside, outside) == first else (*symbols, "/"):
            budget -= units
            if budget < 0:
                return False
            reached = within.step(inside, symbol)
            if not reached:
                continue
            allowed = around.step(outside, symbol)
            if not allowed or (reached & within.end and not allowed & around.end):
                return False  # each state leads to the end, so without states outside, some path is not covered
            pair = (reached, allowed)
            if pair not in seen and not allowed & around.everything:
                seen.add(pair)
                waiting.append(pair)
    return True


class _Automaton:
    """The union of patterns as an automaton. State `i` is bit `i` of a set.

    `*` is a state with a loop. A `**` is two states: one between segments, and one inside a segment. A path may end with an empty
    segment, which only a `**` at the end of a pattern matches.

    Attributes:
        literals: the states that proceed with a certain character, by character.
        start: the states before the first character.
        end: the states in which a pattern accepts.
        everything: the states from which a pattern accepts every rest of a path.
        free: the states that proceed with any character of a segment.
        size: the number of states.
    """

    def __init__(self) -> None:
        self.literals: dict[str, int] = {}
        self.start = self.end = self.everything = self.free = self.size = 0
        self._stars = 0
        self._proceeding = (
            0  # the states that proceed to the next state with any character of a segment
        )
        self._looping = 0  # the states that stay with any character of a segment
        self._between = 0  # the states of `**` between segments
        self._inside = 0  # the states of `**` inside a segment
        self._last = 0  # the states of `**` at the end of a pattern, between segments

    def add(self, pattern: str) -> None:
        """Adds a pattern."""
        start = self._bit()
        segments = pattern.split("/")
        for number, segment in enumerate(segments):
            if segment != ANY:
                self._add_segment(segment)
            elif segments[number - 1 : number] != [ANY]:  # `**/**` means the same as `**`
                self._add_any(is_last=set(segments[number:]) == {ANY})
        self.end |= self._bit()
        self.size += 1
        self.start |= self._closed(start)

    def step(self, states: int, symbol: str) -> int:
        """Returns the states that follow `states` after one character."""
        following = (states & self.literals.get(symbol, 0)) << 1
        if symbol == "/":
            following |= (states & self._inside) >> 1 | (states & self._last) << 2
        else:
            following |= (states & self._proceeding) << 1 | states & self._looping
        return self._closed(following)

    def symbols(self, states: int) -> list[str]:
        """Returns the characters other than `/` with which some of the states proceed, if none of the states is free."""
        return [
            symbol
            for symbol, proceeding in self.literals.items()
            if states & proceeding and symbol != "/"
        ]

    def _bit(self) -> int:
        return 1 << self.size

    def _closed(self, states: int) -> int:
        """Adds the states that a `**` without segments, and then a `*` without characters, lead to."""
        states |= (states & self._between) << 2
        return states | (states & self._stars) << 1

    def _add_segment(self, segment: str) -> None:
        if segment == ONE:  # at least one character
            self._proceeding |= self._bit()
            self.free |= self._bit()
            self.size += 1
        for character in segment + "/":
            if character == ONE:
                self._stars |= self._bit()
                self._looping |= self._bit()
                self.free |= self._bit()
            else:
                self.literals[character] = self.literals.get(character, 0) | self._bit()
            self.size += 1

    def _add_any(self, is_last: bool) -> None:
        between, inside = self._bit(), self._bit() << 1
        self._between |= between
        self._proceeding |= between
        self._inside |= inside
        self._looping |= inside
        self.free |= between | inside
        if is_last:
            self._last |= between
            self.everything |= between | inside
        self.size += 2
