"""Compares a pull-wake subscription with a simple model, while several workers claim, acknowledge and release its wakes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from durable_streams_server.errors import StreamError
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Release,
    Subscribe,
    SubscriptionCommand,
    parse_subscribe,
)
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.streams.engine import Engine
from durable_streams_server.subscriptions.service import Service
from tests.requests import append, create
from tests.streams.engines import ManualClock

ROOT = "/v1/stream"
WAKES = f"{ROOT}/wake/pool"
PATHS = [f"{ROOT}/events/{name}" for name in ("a", "b", "c")]
LEASE = 10  # seconds
JSON = "application/json"
VALUE = 2  # bytes of one value and its comma

paths = st.sampled_from(PATHS)
workers = st.sampled_from(["one", "two", "three"])


@dataclass
class Model:
    """The expected state of one pull-wake subscription. Times are in seconds."""

    tails: dict[str, int] = field(default_factory=dict)  # the number of values in each stream
    cursors: dict[str, int] = field(default_factory=dict)
    lives: dict[str, int] = field(default_factory=dict)
    generation: int = 0
    in_flight: bool = False
    holder: str | None = None
    lease_until: float = 0
    events: list[int] = field(default_factory=list)  # the generations that were announced
    begun_at: float = 0
    fruitless: int = 0  # the consecutive wakes before the present one that moved no cursor
    has_moved: bool = False
    announce_at: float | None = None  # the time at which a delayed wake is announced

    def due(self) -> set[str]:
        return {path for path, tail in self.tails.items() if tail > self.cursors[path]}

    def wake(self, now: float) -> None:
        """Begins a wake while none is in flight."""
        self.fruitless = 0
        self.begin(now)

    def begin_next(self, now: float) -> None:
        """Begins the wake after another one, delayed if the last wakes moved no cursor."""
        self.fruitless = 0 if self.has_moved else self.fruitless + 1
        apart = 0 if self.fruitless < 2 else min(60, 2 ** (self.fruitless - 2))
        self.begin(max(now, min(self.begun_at, now) + apart) if apart else now)

    def begin(self, at: float) -> None:
        self.generation += 1
        self.in_flight, self.holder, self.has_moved = True, None, False
        self.begun_at = self.announce_at = at

    def announce(self, now: float) -> None:
        """Announces the wake in flight if its time has come and no worker has claimed it."""
        if self.in_flight and self.announce_at is not None and self.announce_at <= now:
            self.events.append(self.generation)
            self.announce_at = None

    def end(self, now: float) -> bool:
        """Ends the wake in flight, and returns whether another one has begun."""
        self.in_flight, self.holder = False, None
        if self.due():
            self.begin_next(now)
            self.announce(now)
        return self.in_flight

    def is_held(self, now: float) -> bool:
        return self.holder is not None and now < self.lease_until


@dataclass
class ClaimedWake:
    """A wake that a worker has claimed. `lives` counts how often each stream had been created at that time."""

    view: View
    lives: dict[str, int]


class ClaimMachine(RuleBasedStateMachine):
    """Runs the commands of several workers on the service and on the model."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.engine = Engine(self.store, clock=self.clock)
        self.service = Service(self.engine)
        self.model = Model()
        self.held: list[ClaimedWake] = []
        self.store.execute(create(WAKES, JSON), self.clock())
        body = {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake/pool"}
        text = msgspec.json.encode({**body, "lease_ttl_ms": LEASE * 1000})
        command = parse_subscribe("s", text, ROOT)
        assert isinstance(command, Subscribe)
        self.run_command(command)

    @property
    def now(self) -> float:
        return self.clock.now / 1_000_000

    def run_command(self, command: SubscriptionCommand) -> Any:
        ticket = self.service.run(command)
        assert ticket.done
        return ticket.result()

    def refusal_of(self, command: SubscriptionCommand) -> str:
        try:
            self.run_command(command)
        except StreamError as refusal:
            return refusal.code
        raise AssertionError("it should have been refused")

    @rule(path=paths, values=st.integers(1, 3))
    def append(self, path: str, values: int) -> None:
        model = self.model
        body = b"[" + b",".join([b"1"] * values) + b"]"
        if path in model.tails:
            self.store.execute(append(path, body, JSON), self.clock()).result()
        else:
            self.store.execute(create(path, JSON, body), self.clock()).result()
            model.tails[path] = model.cursors[path] = 0
            model.lives[path] = model.lives.get(path, 0) + 1
        model.tails[path] += values
        if not model.in_flight:
            model.wake(self.now)
            model.announce(self.now)

    @rule(path=paths)
    def delete(self, path: str) -> None:
        model = self.model
        if path not in model.tails:
            return
        was_due = path in model.due()
        self.store.execute(Delete(path), self.clock()).result()
        del model.tails[path], model.cursors[path]
        if was_due and model.in_flight and model.holder is None and not model.due():
            model.in_flight = False

    @rule(worker=workers)
    def claim(self, worker: str) -> None:
        model, command = self.model, Claim("s", worker)
        if model.is_held(self.now):
            assert self.refusal_of(command) == "ALREADY_CLAIMED"
            return
        lapsed = model.holder is not None
        if not model.in_flight or (lapsed and not model.due()):
            assert self.refusal_of(command) == "NOTHING_TO_CLAIM"
            return
        view = self.run_command(command)
        if lapsed:
            model.begin_next(self.now)  # the claim begins the next wake, which is not announced
        model.announce_at = None
        model.holder, model.lease_until = worker, self.now + LEASE
        assert view.generation == model.generation
        told = {stream.path for stream in view.streams if stream.acked != stream.tail}
        assert told == model.due()
        assert all(_position(s.acked) == model.cursors[s.path] * VALUE for s in view.streams)
        self.held.append(ClaimedWake(view, dict(model.lives)))

    @precondition(lambda self: self.held)
    @rule(
        back=st.integers(0, 3),
        shares=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=3),
        skip=st.booleans(),
        done=st.booleans(),
    )
    def acknowledge(self, back: int, shares: list[float], skip: bool, done: bool) -> None:
        """Acknowledges a share of the news one or more times. The last acknowledgement may end the wake."""
        held = self.held[-1 - min(back, len(self.held) - 1)]
        for share in shares[:-1]:
            self.acknowledge_once(held, share, skip, done=False)
        self.acknowledge_once(held, shares[-1], skip, done)

    def acknowledge_once(self, held: ClaimedWake, share: float, skip: bool, done: bool) -> None:
        model, view = self.model, held.view
        acks = {}
        for stream in view.streams[1:] if skip else view.streams:
            first, last = _position(stream.acked) // VALUE, _position(stream.tail) // VALUE
            acks[stream.path] = (stream.tail[:17], first + int((last - first) * share))
        assert view.wake is not None
        command = Acknowledge(
            view.grant,
            view.generation,
            view.wake.wake_id,
            tuple((p, parse(f"{life}{n * VALUE:016d}")) for p, (life, n) in acks.items()),
            done,
        )
        if view.generation != model.generation or not model.is_held(self.now):
            assert self.refusal_of(command) == "FENCED"
            return
        outcome = self.service.acknowledge(command).result()
        for path, (_, count) in acks.items():
            if path in model.tails and held.lives[path] == model.lives[path]:
                model.has_moved = model.has_moved or count > model.cursors[path]
                model.cursors[path] = max(model.cursors[path], count)
        if done:
            assert outcome.next_wake == model.end(self.now)
        else:
            assert outcome.next_wake is False
            model.lease_until = self.now + LEASE

    @precondition(lambda self: self.held)
    @rule(back=st.integers(0, 3))
    def release(self, back: int) -> None:
        view = self.held[-1 - min(back, len(self.held) - 1)].view
        assert view.wake is not None
        command = Release(view.grant, view.generation, view.wake.wake_id)
        if view.generation != self.model.generation or not self.model.is_held(self.now):
            assert self.refusal_of(command) == "FENCED"
            return
        self.run_command(command)
        self.model.end(self.now)

    @rule(seconds=st.sampled_from([0.5, LEASE / 2, LEASE, LEASE * 3]), on_time=st.booleans())
    def pass_time(self, seconds: float, on_time: bool) -> None:
        """Moves the clock forward, and runs the schedule unless it is late."""
        self.clock.forward(seconds)
        if on_time:
            self.service.schedule.run()
            if self.model.holder is not None and not self.model.is_held(self.now):
                self.model.end(self.now)
            self.model.announce(self.now)

    @invariant()
    def subscription_equals_the_model(self) -> None:
        model = self.model
        subscription = self.store.subscriptions.get("s")
        assert subscription is not None
        assert subscription.generation == model.generation
        assert (subscription.wake is not None) == model.in_flight
        if subscription.wake is not None:
            assert subscription.wake.holder == model.holder
        found = {path: offset.position for path, offset in subscription.due.items()}
        assert found == {path: model.cursors[path] * VALUE for path in model.due()}

    @invariant()
    def every_wake_is_announced_exactly_once(self) -> None:
        state = self.store.find(WAKES).result()
        assert state is not None
        wire = self.store.read_bytes(state.incarnation, 0, state.visible_tail).result()
        events: Sequence[Any] = msgspec.json.decode(b"[" + wire[:-1] + b"]")
        assert [event["generation"] for event in events] == self.model.events


def _position(offset: str) -> int:
    return parse(offset).position


TestClaimMachine = ClaimMachine.TestCase
TestClaimMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
