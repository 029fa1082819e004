"""Tests the limits of `DeliverySlots`, and which delivery gets the next slot."""

from collections.abc import Callable

import pytest

from durable_streams_server.subscriptions.slots import (
    MAX_DELIVERIES,
    MAX_PER_HOST,
    MAX_PER_SILENT_HOST,
    DeliverySlots,
)


class Recorder:
    """Requests slots for named deliveries, and records the names in the order in which the deliveries begin.

    The first letter of a name is the host of its delivery. A silent host has one slot unless a test says otherwise.

    Attributes:
        begun: the names of the deliveries that have begun.
    """

    def __init__(self, most: int = MAX_DELIVERIES, per_host: int = MAX_PER_HOST, **more: int):
        self.slots = DeliverySlots(most, per_host, **{"per_silent_host": 1, **more})
        self.begun: list[str] = []

    def request(self, *names: str) -> None:
        for name in names:
            self.slots.request(name[0], self._begins(name))

    def answer_once(self, hosts: str) -> None:
        """Runs one answered delivery to each host."""
        for host in hosts:
            self.slots.request(host, lambda: None)
            self.slots.release(host, answered=True)

    def _begins(self, name: str) -> Callable[[], None]:
        return lambda: self.begun.append(name)


# Limits


def test_defaults_allow_512_slots_with_8_per_host_and_4_per_silent_host() -> None:
    assert (MAX_DELIVERIES, MAX_PER_HOST, MAX_PER_SILENT_HOST) == (512, 8, 4)


def test_host_gets_one_slot_before_its_first_answer_and_eight_afterwards() -> None:
    recorder = Recorder()
    recorder.request(*(f"a{n}" for n in range(20)))
    assert recorder.begun == ["a0"]
    recorder.slots.release("a", answered=True)
    assert recorder.begun == [f"a{n}" for n in range(9)]
    recorder.slots.release("a", answered=True)
    assert recorder.begun == [f"a{n}" for n in range(10)]
    assert (recorder.slots.taken, recorder.slots.waiting) == (8, 10)


def test_host_that_stops_answering_falls_back_to_one_slot() -> None:
    recorder = Recorder()
    recorder.answer_once("a")
    recorder.request(*(f"a{n}" for n in range(20)))
    assert len(recorder.begun) == 8
    for _ in range(7):
        recorder.slots.release("a", answered=False)
    assert len(recorder.begun) == 8
    recorder.slots.release("a", answered=False)
    assert len(recorder.begun) == 9
    recorder.slots.release("a", answered=False)
    assert len(recorder.begun) == 10
    recorder.slots.release("a", answered=True)
    assert len(recorder.begun) == 18


def test_silent_hosts_together_use_at_most_half_of_the_slots() -> None:
    recorder = Recorder(6, 2)
    recorder.request("a1", "b1", "c1", "d1", "e1")
    assert recorder.begun == ["a1", "b1", "c1"]
    recorder.slots.release("b", answered=False)
    assert recorder.begun[3:] == ["d1"]
    recorder.slots.release("a", answered=True)
    assert recorder.begun[4:] == ["e1"]


def test_silent_host_leaves_the_silent_limit_once_it_answers() -> None:
    recorder = Recorder(6, 4, per_silent_host=3)
    recorder.request("a1", "a2", "a3", "b1")
    assert recorder.begun == ["a1", "a2", "a3"]
    recorder.slots.release("a", answered=True)
    assert recorder.begun[3:] == ["b1"]


def test_silent_host_may_use_the_only_slot() -> None:
    recorder = Recorder(1)
    recorder.request("a1")
    assert recorder.begun == ["a1"]


@pytest.mark.parametrize("dead", [64, 500, 5000])
def test_dead_hosts_never_delay_a_host_that_answers(dead: int) -> None:
    slots = DeliverySlots()
    slots.request("good", lambda: None)
    slots.release("good", answered=True)
    for number in range(dead):
        for _ in range(20):
            slots.request(f"dead{number}", lambda: None)
    assert slots.taken == min(dead * MAX_PER_SILENT_HOST, MAX_DELIVERIES // 2)
    begun: list[str] = []
    for _ in range(MAX_PER_HOST):
        slots.request("good", lambda: begun.append("good"))
    assert len(begun) == MAX_PER_HOST


def test_burst_of_deliveries_to_a_dead_host_uses_four_slots() -> None:
    slots = DeliverySlots()
    for _ in range(10_000):
        slots.request("dead", lambda: None)
    assert slots.taken == MAX_PER_SILENT_HOST


def test_unsent_delivery_does_not_make_its_host_silent() -> None:
    recorder = Recorder()
    recorder.answer_once("a")
    recorder.request(*(f"a{n}" for n in range(9)), "b1", "b2")
    for host in "ab":
        recorder.slots.release(host, answered=None)
    assert recorder.begun == [*(f"a{n}" for n in range(8)), "b1", "a8", "b2"]


# Order


def test_hosts_take_turns_and_deliveries_of_one_host_keep_their_order() -> None:
    recorder = Recorder(2, 2)
    recorder.answer_once("abc")
    recorder.request("a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert recorder.begun == ["a1", "a2"]
    for host in "aabac":
        recorder.slots.release(host, answered=True)
    assert recorder.begun[2:] == ["b1", "c1", "a3", "b2", "a4"]


def test_silent_hosts_take_turns_with_answering_hosts() -> None:
    recorder = Recorder(2, 2)
    recorder.answer_once("ab")
    recorder.request("a1", "a2", "n1", "b1")
    recorder.slots.release("a", answered=True)
    recorder.slots.release("a", answered=True)
    assert recorder.begun[2:] == ["n1", "b1"]


def test_answering_host_overtakes_silent_host_that_must_wait() -> None:
    recorder = Recorder(2, 2)
    recorder.answer_once("b")
    recorder.request("n1", "b1", "m1", "b2")
    assert recorder.begun == ["n1", "b1"]
    recorder.slots.release("b", answered=True)
    assert recorder.begun[2:] == ["b2"]
    recorder.slots.release("n", answered=False)
    assert recorder.begun[3:] == ["m1"]


# Callbacks


@pytest.mark.parametrize("waits", [False, True])
def test_delivery_that_fails_to_start_frees_its_slot(
    waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("no memory for a task")

    recorder = Recorder(1)
    if waits:
        recorder.request("a1")
    recorder.slots.request("a", fail)
    recorder.slots.request("b", fail)
    recorder.request("c1")
    if waits:
        recorder.slots.release("a", answered=True)
    assert recorder.begun[-1] == "c1"
    recorder.slots.release("c", answered=True)
    assert (recorder.slots.taken, recorder.slots.waiting, recorder.slots._hosts) == (0, 0, {})
    assert caplog.text.count("RuntimeError: no memory for a task") == 2


def test_keyboard_interrupt_while_delivery_starts_is_raised() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    recorder = Recorder(1)
    with pytest.raises(KeyboardInterrupt):
        recorder.slots.request("a", interrupt)
    assert recorder.slots.taken == 0
    recorder.request("b1")
    assert recorder.begun == ["b1"]


def test_delivery_that_ends_immediately_causes_no_recursion() -> None:
    slots = DeliverySlots(1)
    ended = 0

    def begin() -> None:
        nonlocal ended
        ended += 1
        slots.release("a", answered=False)

    slots.request("b", lambda: None)
    for _ in range(10_000):
        slots.request("a", begin)
    slots.release("b", answered=True)
    assert ended == 10_000
    assert slots.taken == 0


def test_starting_delivery_may_request_more_slots() -> None:
    recorder = Recorder(4)
    recorder.slots.request("a", lambda: recorder.request("b1", "c1"))
    assert recorder.begun == ["b1"]
    recorder.slots.release("b", answered=False)
    assert recorder.begun == ["b1", "c1"]
    assert (recorder.slots.taken, recorder.slots.waiting) == (2, 0)


# Clearing


def test_clear_drops_waiting_deliveries_and_keeps_slots_in_use() -> None:
    recorder = Recorder()
    recorder.request("a1", "a2", "b1", "b2")
    recorder.slots.clear()
    assert (recorder.slots.taken, recorder.slots.waiting) == (2, 0)
    recorder.slots.release("a", answered=True)
    recorder.slots.release("b", answered=False)
    assert (recorder.slots.taken, recorder.begun) == (0, ["a1", "b1"])
    recorder.request("a3")
    assert recorder.begun[2:] == ["a3"]


def test_release_without_a_slot_raises_value_error() -> None:
    slots = DeliverySlots()
    with pytest.raises(ValueError, match="no delivery"):
        slots.release("a", answered=True)
    assert slots.taken == 0


# Memory


def test_answering_hosts_without_deliveries_are_remembered_up_to_a_limit() -> None:
    recorder = Recorder(8, 4, remembered=2)
    recorder.answer_once("abc")  # the limit is two, so host a is forgotten
    recorder.request("a1", "a2", "b1", "b2", "c1", "c2")
    assert recorder.begun == ["a1", "b1", "b2", "c1", "c2"]
    for host in "abbcc":
        recorder.slots.release(host, answered=True)
    recorder.slots.release("a", answered=False)
    assert set(recorder.slots._remembered) == {"b", "c"}
    assert recorder.slots._hosts == {}


def test_silent_hosts_without_deliveries_are_forgotten() -> None:
    recorder = Recorder()
    for _ in range(3):
        recorder.request("a1")
        recorder.slots.release("a", answered=False)
    assert (recorder.slots._hosts, len(recorder.slots._remembered)) == ({}, 0)
