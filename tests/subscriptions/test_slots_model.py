"""Compares `DeliverySlots` with a simple model that looks at every host each time."""

from collections import deque
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from durable_streams_server.subscriptions.slots import DeliverySlots


class Model:
    """A slow and simple implementation of `DeliverySlots`."""

    def __init__(self, most: int, per_host: int, per_silent_host: int) -> None:
        self.most, self.per_host, self.per_silent_host = most, per_host, per_silent_host
        self.waiting: dict[str, deque[int]] = {}
        self.taken: dict[str, int] = {}
        self.answers: dict[str, bool] = {}
        self.since: dict[str, int] = {}  # host: when it was put at the end of the queue
        self.now = 0
        self.begun: list[tuple[str, int]] = []

    def limit(self, host: str) -> int:
        return self.per_host if self.answers.get(host) else self.per_silent_host

    def taken_by_silent_hosts(self) -> int:
        return sum(taken for host, taken in self.taken.items() if not self.answers.get(host))

    def ready(self, host: str) -> bool:
        return bool(self.waiting.get(host)) and self.taken.get(host, 0) < self.limit(host)

    def eligible(self) -> list[str]:
        if sum(self.taken.values()) >= self.most:
            return []
        full = self.taken_by_silent_hosts() >= max(1, self.most // 2)
        return [h for h in self.waiting if self.ready(h) and (self.answers.get(h) or not full)]

    def queue(self, host: str, to_end: bool = False) -> None:
        if not self.ready(host):
            self.since.pop(host, None)
        elif to_end or host not in self.since:
            self.now += 1
            self.since[host] = self.now

    def request(self, host: str, number: int) -> None:
        self.waiting.setdefault(host, deque()).append(number)
        self.queue(host)
        self.start_ready()

    def release(self, host: str, answered: bool) -> None:
        self.taken[host] -= 1
        changed = self.answers.get(host, False) != answered
        self.answers[host] = answered
        self.queue(host, to_end=changed)
        self.start_ready()

    def start_ready(self) -> None:
        while eligible := self.eligible():
            host = min(eligible, key=self.since.__getitem__)
            self.begun.append((host, self.waiting[host].popleft()))
            self.taken[host] = self.taken.get(host, 0) + 1
            self.queue(host, to_end=True)


class SlotsMachine(RuleBasedStateMachine):
    """Requests and releases slots in any order, in `DeliverySlots` and in the model."""

    @initialize(
        most=st.integers(1, 12), per_host=st.integers(1, 4), per_silent_host=st.integers(1, 2)
    )
    def begin(self, most: int, per_host: int, per_silent_host: int) -> None:
        per_silent_host = min(per_host, per_silent_host)
        self.slots = DeliverySlots(most, per_host, per_silent_host)
        self.model = Model(most, per_host, per_silent_host)
        self.begun: list[tuple[str, int]] = []
        self.running: list[str] = []
        self.number = 0

    @rule(host=st.sampled_from("abcdefgh"), times=st.integers(1, 6))
    def request(self, host: str, times: int) -> None:
        for _ in range(times):
            self.number += 1
            delivery = (host, self.number)
            self.slots.request(host, partial(self.record, delivery))
            self.model.request(*delivery)

    def record(self, delivery: tuple[str, int]) -> None:
        self.begun.append(delivery)
        self.running.append(delivery[0])

    @precondition(lambda self: self.running)
    @rule(data=st.data(), answered=st.booleans())
    def release(self, data: st.DataObject, answered: bool) -> None:
        host = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.slots.release(host, answered)
        self.model.release(host, answered)

    @rule()
    def clear(self) -> None:
        self.slots.clear()
        self.model.waiting.clear()
        self.model.since.clear()

    @invariant()
    def slots_begin_the_deliveries_that_the_model_begins(self) -> None:
        if not hasattr(self, "slots"):
            return
        assert self.begun == self.model.begun
        assert self.slots.taken == len(self.running) == sum(self.model.taken.values())
        assert self.slots.waiting == sum(map(len, self.model.waiting.values()))

    @invariant()
    def limits_hold_and_no_usable_slot_is_idle(self) -> None:
        if not hasattr(self, "slots"):
            return
        assert len(self.running) <= self.model.most
        assert all(self.running.count(host) <= self.model.per_host for host in set(self.running))
        assert self.model.eligible() == []

    @invariant()
    def deliveries_of_each_host_begin_in_order(self) -> None:
        if not hasattr(self, "slots"):
            return
        for host in "abcdefgh":
            numbers = [number for name, number in self.begun if name == host]
            assert numbers == sorted(numbers)

    @invariant()
    def only_hosts_with_deliveries_are_kept(self) -> None:
        if not hasattr(self, "slots"):
            return
        waiting = {host for host, queue in self.model.waiting.items() if queue}
        assert set(self.slots._hosts) == waiting | set(self.running)
        assert not set(self.slots._remembered) & set(self.slots._hosts)


TestSlotsMachine = SlotsMachine.TestCase
TestSlotsMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
