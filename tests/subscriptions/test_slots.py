"""Places for deliveries: how many there are, who gets the next one, and what waiting costs."""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from durable_streams_server.subscriptions.slots import (
    MAX_DELIVERIES,
    MAX_PER_HOST,
    MAX_PER_SILENT_HOST,
    DeliverySlots,
)


class Door:
    """DeliverySlots, and the names of deliveries in the order in which they began. A name's first letter is its host."""

    def __init__(self, most: int = MAX_DELIVERIES, per_host: int = MAX_PER_HOST, **more: int):
        self.slots = DeliverySlots(most, per_host, **{"per_silent_host": 1, **more})
        self.begun: list[str] = []

    def ask(self, *names: str) -> None:
        for name in names:
            self.slots.ask(name[0], lambda name=name: self.begun.append(name))  # type: ignore[misc]

    def introduce(self, hosts: str) -> None:
        """Has each host answer once."""
        for host in hosts:
            self.slots.ask(host, lambda: None)
            self.slots.give_back(host, answered=True)


# The shares


def test_defaults_are_512_places_with_8_for_a_host_and_4_for_a_silent_one() -> None:
    assert (MAX_DELIVERIES, MAX_PER_HOST, MAX_PER_SILENT_HOST) == (512, 8, 4)


def test_new_host_has_one_place_until_it_answers_and_eight_afterwards() -> None:
    door = Door()
    door.ask(*(f"a{n}" for n in range(20)))
    assert door.begun == ["a0"]
    door.slots.give_back("a", answered=True)
    assert door.begun == [f"a{n}" for n in range(9)]
    door.slots.give_back("a", answered=True)
    assert door.begun == [f"a{n}" for n in range(10)]
    assert (door.slots.taken, door.slots.waiting) == (8, 10)


def test_host_that_no_longer_answers_falls_back_to_one_place() -> None:
    door = Door()
    door.introduce("a")
    door.ask(*(f"a{n}" for n in range(20)))
    assert len(door.begun) == 8
    for _ in range(7):
        door.slots.give_back("a", answered=False)
    assert len(door.begun) == 8
    door.slots.give_back("a", answered=False)
    assert len(door.begun) == 9
    door.slots.give_back("a", answered=False)
    assert len(door.begun) == 10
    door.slots.give_back("a", answered=True)
    assert len(door.begun) == 18


def test_silent_hosts_have_half_of_the_places_together() -> None:
    door = Door(6, 2)
    door.ask("a1", "b1", "c1", "d1", "e1")
    assert door.begun == ["a1", "b1", "c1"]
    door.slots.give_back("b", answered=False)
    assert door.begun[3:] == ["d1"]
    door.slots.give_back("a", answered=True)
    assert door.begun[4:] == ["e1"]


def test_host_that_answers_frees_the_places_of_silent_hosts_that_it_had() -> None:
    door = Door(6, 4, per_silent_host=3)
    door.ask("a1", "a2", "a3", "b1")
    assert door.begun == ["a1", "a2", "a3"]
    door.slots.give_back("a", answered=True)
    assert door.begun[3:] == ["b1"]


def test_one_place_in_all_is_open_to_silent_hosts() -> None:
    door = Door(1)
    door.ask("a1")
    assert door.begun == ["a1"]


@pytest.mark.parametrize("dead", [64, 500, 5000])
def test_dead_hosts_never_keep_a_host_that_answers_waiting(dead: int) -> None:
    slots = DeliverySlots()
    slots.ask("good", lambda: None)
    slots.give_back("good", answered=True)
    for number in range(dead):
        for _ in range(20):
            slots.ask(f"dead{number}", lambda: None)
    assert slots.taken == min(dead * MAX_PER_SILENT_HOST, MAX_DELIVERIES // 2)
    begun: list[int] = []
    for number in range(MAX_PER_HOST):
        slots.ask("good", lambda number=number: begun.append(number))  # type: ignore[misc]
    assert begun == list(range(MAX_PER_HOST))


def test_burst_to_a_new_dead_host_holds_few_places() -> None:
    slots = DeliverySlots()
    for _ in range(10_000):
        slots.ask("dead", lambda: None)
    assert slots.taken == MAX_PER_SILENT_HOST


def test_delivery_that_was_not_sent_says_nothing_about_its_host() -> None:
    door = Door()
    door.introduce("a")
    door.ask(*(f"a{n}" for n in range(9)), "b1", "b2")
    for host in "ab":
        door.slots.give_back(host, answered=None)
    assert door.begun == [*(f"a{n}" for n in range(8)), "b1", "a8", "b2"]


# Turns


def test_hosts_have_turns_and_each_host_s_deliveries_keep_their_order() -> None:
    door = Door(2, 2)
    door.introduce("abc")
    door.ask("a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert door.begun == ["a1", "a2"]
    for host in "aabac":
        door.slots.give_back(host, answered=True)
    assert door.begun[2:] == ["b1", "c1", "a3", "b2", "a4"]


def test_silent_hosts_have_turns_among_the_others() -> None:
    door = Door(2, 2)
    door.introduce("ab")
    door.ask("a1", "a2", "n1", "b1")
    door.slots.give_back("a", answered=True)
    door.slots.give_back("a", answered=True)
    assert door.begun[2:] == ["n1", "b1"]


def test_silent_host_without_a_place_is_passed_over() -> None:
    door = Door(2, 2)
    door.introduce("b")
    door.ask("n1", "b1", "m1", "b2")
    assert door.begun == ["n1", "b1"]
    door.slots.give_back("b", answered=True)
    assert door.begun[2:] == ["b2"]
    door.slots.give_back("n", answered=False)
    assert door.begun[3:] == ["m1"]


# What `begin` may do


@pytest.mark.parametrize("waits", [False, True])
def test_exception_from_begin_is_logged_and_keeps_no_place(
    waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("no memory for a task")

    door = Door(1)
    if waits:
        door.ask("a1")
    door.slots.ask("a", fail)
    door.slots.ask("b", fail)
    door.ask("c1")
    if waits:
        door.slots.give_back("a", answered=True)
    assert door.begun[-1] == "c1"
    door.slots.give_back("c", answered=True)
    assert (door.slots.taken, door.slots.waiting, door.slots._hosts) == (0, 0, {})
    assert caplog.text.count("RuntimeError: no memory for a task") == 2


def test_interrupt_in_begin_keeps_no_place_and_is_raised() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    door = Door(1)
    with pytest.raises(KeyboardInterrupt):
        door.slots.ask("a", interrupt)
    assert door.slots.taken == 0
    door.ask("b1")
    assert door.begun == ["b1"]


def test_deliveries_that_end_at_once_do_not_nest() -> None:
    slots = DeliverySlots(1)
    ended = 0

    def begin() -> None:
        nonlocal ended
        ended += 1
        slots.give_back("a", answered=False)

    slots.ask("b", lambda: None)
    for _ in range(10_000):
        slots.ask("a", begin)
    slots.give_back("b", answered=True)
    assert ended == 10_000
    assert slots.taken == 0


def test_begin_may_ask_for_more() -> None:
    door = Door(4)
    door.slots.ask("a", lambda: door.ask("b1", "c1"))
    assert door.begun == ["b1"]
    door.slots.give_back("b", answered=False)
    assert door.begun == ["b1", "c1"]
    assert (door.slots.taken, door.slots.waiting) == (2, 0)


# The end


def test_clear_forgets_those_who_wait_and_keeps_the_places_that_are_taken() -> None:
    door = Door()
    door.ask("a1", "a2", "b1", "b2")
    door.slots.clear()
    assert (door.slots.taken, door.slots.waiting) == (2, 0)
    door.slots.give_back("a", answered=True)
    door.slots.give_back("b", answered=False)
    assert (door.slots.taken, door.begun) == (0, ["a1", "b1"])
    door.ask("a3")
    assert door.begun[2:] == ["a3"]


def test_place_that_nobody_has_cannot_be_given_back() -> None:
    slots = DeliverySlots()
    with pytest.raises(ValueError, match="no delivery"):
        slots.give_back("a", answered=True)
    assert slots.taken == 0


# Memory


def test_hosts_that_are_not_in_use_are_remembered_within_a_limit() -> None:
    door = Door(8, 4, remembered=2)
    door.introduce("abc")  # a is forgotten
    door.ask("a1", "a2", "b1", "b2", "c1", "c2")
    assert door.begun == ["a1", "b1", "b2", "c1", "c2"]
    for host in "abbcc":
        door.slots.give_back(host, answered=True)
    door.slots.give_back("a", answered=False)
    assert set(door.slots._remembered) == {"b", "c"}
    assert door.slots._hosts == {}


def test_silent_hosts_that_are_not_in_use_are_forgotten() -> None:
    door = Door()
    for _ in range(3):
        door.ask("a1")
        door.slots.give_back("a", answered=False)
    assert (door.slots._hosts, len(door.slots._remembered)) == ({}, 0)


# A simple model


class Model:
    """What `DeliverySlots` must do, by looking at every host each time."""

    def __init__(self, most: int, per_host: int, per_silent_host: int) -> None:
        self.most, self.per_host, self.per_silent_host = most, per_host, per_silent_host
        self.waiting: dict[str, deque[int]] = {}
        self.taken: dict[str, int] = {}
        self.answers: dict[str, bool] = {}
        self.since: dict[str, int] = {}  # when a host began to wait for its turn
        self.now = 0
        self.begun: list[tuple[str, int]] = []

    def share(self, host: str) -> int:
        return self.per_host if self.answers.get(host) else self.per_silent_host

    def silent(self) -> int:
        return sum(taken for host, taken in self.taken.items() if not self.answers.get(host))

    def ready(self, host: str) -> bool:
        return bool(self.waiting.get(host)) and self.taken.get(host, 0) < self.share(host)

    def eligible(self) -> list[str]:
        if sum(self.taken.values()) >= self.most:
            return []
        full = self.silent() >= max(1, self.most // 2)
        return [h for h in self.waiting if self.ready(h) and (self.answers.get(h) or not full)]

    def queue(self, host: str, anew: bool = False) -> None:
        if not self.ready(host):
            self.since.pop(host, None)
        elif anew or host not in self.since:
            self.now += 1
            self.since[host] = self.now

    def ask(self, host: str, number: int) -> None:
        self.waiting.setdefault(host, deque()).append(number)
        self.queue(host)
        self.let_in()

    def give_back(self, host: str, answered: bool) -> None:
        self.taken[host] -= 1
        changed = self.answers.get(host, False) != answered
        self.answers[host] = answered
        self.queue(host, anew=changed)
        self.let_in()

    def let_in(self) -> None:
        while eligible := self.eligible():
            host = min(eligible, key=self.since.__getitem__)
            self.begun.append((host, self.waiting[host].popleft()))
            self.taken[host] = self.taken.get(host, 0) + 1
            self.queue(host, anew=True)


class SlotsMachine(RuleBasedStateMachine):
    """Asks and gives back in any order, on slots and on the model."""

    @initialize(
        most=st.integers(1, 12), per_host=st.integers(1, 4), per_silent_host=st.integers(1, 2)
    )
    def begin(self, most: int, per_host: int, per_silent_host: int) -> None:
        per_silent_host = min(per_host, per_silent_host)
        self.slots = DeliverySlots(most, per_host, per_silent_host)
        self.model = Model(most, per_host, per_silent_host)
        self.begun: list[tuple[str, int]] = []
        self.inside: list[str] = []
        self.number = 0
        self.passed: dict[tuple[str, str], int] = {}  # (waiting host, other host): places since

    @rule(host=st.sampled_from("abcdefgh"), times=st.integers(1, 6))
    def ask(self, host: str, times: int) -> None:
        for _ in range(times):
            self.number += 1
            place = (host, self.number)
            self.slots.ask(host, lambda place=place: self.enter(place))  # type: ignore[misc]
            self.model.ask(*place)

    def enter(self, place: tuple[str, int]) -> None:
        self.begun.append(place)
        self.inside.append(place[0])

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), answered=st.booleans())
    def give_back(self, data: st.DataObject, answered: bool) -> None:
        host = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        self.slots.give_back(host, answered)
        self.model.give_back(host, answered)

    @rule()
    def clear(self) -> None:
        self.slots.clear()
        self.model.waiting.clear()
        self.model.since.clear()

    @invariant()
    def begins_what_the_model_begins(self) -> None:
        if not hasattr(self, "slots"):
            return
        assert self.begun == self.model.begun
        assert self.slots.taken == len(self.inside) == sum(self.model.taken.values())
        assert self.slots.waiting == sum(map(len, self.model.waiting.values()))

    @invariant()
    def keeps_the_shares_and_leaves_no_place_idle(self) -> None:
        if not hasattr(self, "slots"):
            return
        assert len(self.inside) <= self.model.most
        assert all(self.inside.count(host) <= self.model.per_host for host in set(self.inside))
        assert self.model.eligible() == []

    @invariant()
    def keeps_the_order_of_each_host(self) -> None:
        if not hasattr(self, "slots"):
            return
        for host in "abcdefgh":
            numbers = [number for name, number in self.begun if name == host]
            assert numbers == sorted(numbers)

    @invariant()
    def remembers_only_what_it_must(self) -> None:
        if not hasattr(self, "slots"):
            return
        waiting = {host for host, queue in self.model.waiting.items() if queue}
        assert set(self.slots._hosts) == waiting | set(self.inside)
        assert not set(self.slots._remembered) & set(self.slots._hosts)


TestSlotsMachine = SlotsMachine.TestCase
TestSlotsMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


# The cost


def work(hosts: int, per_host: int, count: Callable[[], int]) -> dict[str, float]:
    """Asks and gives back for many hosts, and returns how much each kind of call cost on average.

    Args:
        hosts: how many there are.
        per_host: deliveries to each.
        count: reads the meter.
    """
    slots = DeliverySlots()
    inside: deque[str] = deque()
    names = [f"host{number}" for number in range(hosts)]
    calls = hosts * per_host
    start = count()
    for _ in range(per_host):
        for name in names:
            slots.ask(name, lambda name=name: inside.append(name))  # type: ignore[misc]
    asked = count()
    ended = 0
    while inside:
        ended += 1
        slots.give_back(inside.popleft(), answered=ended % 3 != 0)
    assert ended == calls
    return {"ask": (asked - start) / calls, "give_back": (count() - asked) / calls}


def lines_of(call: Callable[[Callable[[], int]], dict[str, float]]) -> dict[str, float]:
    """Counts the lines of slots.py that run."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.endswith("slots.py") or "test" in frame.f_code.co_filename:
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return call(lambda: lines)
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(("hosts", "per_host"), [(10_000, 1), (1, 10_000), (1_000, 10)])
def test_each_call_costs_the_same_however_many_wait(hosts: int, per_host: int) -> None:
    cost = lines_of(lambda count: work(hosts, per_host, count))
    assert cost["ask"] < 60
    assert cost["give_back"] < 100


@pytest.mark.parametrize(("hosts", "per_host"), [(20_000, 1), (1, 20_000), (2_000, 10)])
def test_each_call_takes_microseconds(hosts: int, per_host: int) -> None:
    cost = work(hosts, per_host, time.perf_counter_ns)
    assert cost["ask"] < 100_000
    assert cost["give_back"] < 100_000
