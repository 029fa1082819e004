"""Measures the cost of one call of `DeliverySlots` while many hosts and deliveries wait."""

import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from durable_streams_server.subscriptions.slots import DeliverySlots


def average_costs(hosts: int, per_host: int, count: Callable[[], int]) -> dict[str, float]:
    """Requests and releases slots for many hosts, and returns the average cost of each kind of call.

    Args:
        hosts: the number of hosts.
        per_host: the number of deliveries to each host.
        count: returns the cost so far, in lines or nanoseconds.
    """
    slots = DeliverySlots()
    running: deque[str] = deque()
    names = [f"host{number}" for number in range(hosts)]
    calls = hosts * per_host
    start = count()
    for _ in range(per_host):
        for name in names:
            slots.request(name, partial(running.append, name))
    requested = count()
    ended = 0
    while running:
        ended += 1
        slots.release(running.popleft(), answered=ended % 3 != 0)
    assert ended == calls
    return {"request": (requested - start) / calls, "release": (count() - requested) / calls}


def average_lines(call: Callable[[Callable[[], int]], dict[str, float]]) -> dict[str, float]:
    """Calls `call` with a function that counts the executed lines of slots.py. Returns the costs that `call` returns."""
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
def test_number_of_waiting_deliveries_does_not_slow_slot_request(hosts: int, per_host: int) -> None:
    cost = average_lines(lambda count: average_costs(hosts, per_host, count))
    assert cost["request"] < 60
    assert cost["release"] < 100


@pytest.mark.parametrize(("hosts", "per_host"), [(20_000, 1), (1, 20_000), (2_000, 10)])
def test_slot_request_and_release_take_less_than_100_microseconds(
    hosts: int, per_host: int
) -> None:
    cost = average_costs(hosts, per_host, time.thread_time_ns)
    assert cost["request"] < 100_000
    assert cost["release"] < 100_000
