"""The crash simulator: one seed, one run of the real store on a simulated disk, with an oracle that forgets nothing.

The store runs under its real `Runner`, on an executor that runs jobs only when the simulation says so: commits, checkpoints,
reads, their ends, turns of the loop, timers and stops come in any order. The simulation writes down every record that the store
decides. At any moment readers must see exactly what the durable records make; after any crash or stop the store must be exactly
what some prefix of the records makes, and that prefix must hold every record that anybody was told of.
"""

import errno
import os
import random
from collections.abc import Callable
from typing import Any, TypeVar

from durable_streams_server.errors import StreamError, Unavailable
from durable_streams_server.protocol.commands import Command, Create, Delete, Expire, Fork
from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.limits import MAX_JSON_DEPTH
from durable_streams_server.protocol.media import Kind
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.state import (
    Appended,
    Change,
    Created,
    Removed,
    StreamState,
    Touched,
    apply,
)
from durable_streams_server.protocol.subscriptions.changes import SubscriptionChange
from durable_streams_server.protocol.subscriptions.state import MAX_DUE, Subscriptions
from durable_streams_server.protocol.timeline import TOLERANCE
from durable_streams_server.storage.files.catalog.copy import Copy, records_of
from durable_streams_server.storage.files.catalog.reconcile import Relation, relate
from durable_streams_server.storage.files.catalog.tables import (
    META,
    META_KEY,
    NAMES,
    operations,
    parse_meta,
)
from durable_streams_server.storage.files.directory import CATALOG, prepare
from durable_streams_server.storage.files.executor import Lane
from durable_streams_server.storage.files.limits import Limits
from durable_streams_server.storage.files.runner import Runner
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.ticket import Abandoned, Ticket
from durable_streams_server.streams import forks
from durable_streams_server.streams.reader import Reader
from durable_streams_server.testing.catalog import SimulatedCatalog, SimulatedTables
from durable_streams_server.testing.disk import PowerLoss, SimulatedDisk
from tests.crash.executor import SimulatedExecutor
from tests.crash.workers import Workers
from tests.requests import NOW, SECOND, append, create

T = TypeVar("T")

PATHS = [f"/{letter}" for letter in "abcdefgh"]
TYPES = ["application/json", "text/plain", "application/octet-stream"]
DATE = Lifetime(expires_at=NOW + 1800 * SECOND)
LIFETIMES = [FOREVER, FOREVER, Lifetime(ttl=10), Lifetime(ttl=3), DATE]
SET_CLOCK = (0, 3600 * SECOND, -3600 * SECOND)  # what the wall clock is ahead of steady time
REGISTRY = Registry("/registry")
ROOT = ""
FEW_DUE = (1, 2, 3)  # cursors that a subscription may have, in half of the runs
GENERATIONS = 4
STEPS = 120


class Model:
    """What a run of records makes."""

    def __init__(self) -> None:
        self.states: dict[str, StreamState] = {}
        self.subscriptions = Subscriptions(ROOT)
        self.bytes: dict[int, bytearray] = {}

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            if isinstance(change, SubscriptionChange):
                self.subscriptions.apply(change)
                continue
            state = apply(self.states, change)
            if isinstance(change, Created):
                self.bytes[change.incarnation] = bytearray()
            elif isinstance(change, Appended):
                assert change.start == state.base + len(self.bytes[change.incarnation])
                self.bytes[change.incarnation] += change.data
            elif isinstance(change, Removed):
                del self.bytes[change.incarnation]

    def content(self, state: StreamState) -> bytes:
        """Returns a stream's bytes, its ancestors' included."""
        owners = {other.incarnation: other for other in self.states.values()}
        parts = []
        for incarnation, start, end in state.extents(0, state.tail):
            base = owners[incarnation].base
            parts.append(self.bytes[incarnation][start - base : end - base])
        return b"".join(parts)


class RecordingRunner(Runner):
    """Writes down every record when it is decided."""

    def __init__(self, store: FileStore, simulation: "Simulation") -> None:
        super().__init__(*store.parts, simulation.executor, simulation.failures.append)
        self._simulation = simulation

    def commit_due(self) -> None:
        super().commit_due()
        item = self._commits.newest_pending
        if item.place is not None:
            self._simulation.history[item.place.lsn] = [each.change for each in item.published]


class Simulation:
    """One seeded run.

    Args:
        seed: what decides everything.
        make_store: how to make the store; a patched one shows that the oracle finds its fault.
    """

    def __init__(self, seed: int, make_store: Callable[..., FileStore] = FileStore) -> None:
        self.chance = random.Random(seed)
        self.disk = SimulatedDisk(self.chance)
        self.make_store = make_store
        self.history: dict[int, list[Change]] = {}
        self.now = NOW  # steady time
        self.wall_offset = 0
        self.promised = 0  # the newest record that anybody was told of
        self.registry = REGISTRY if self.chance.random() < 0.3 else None
        self.uses: dict[int, int] = {}
        self.lost: set[int] = set()  # incarnations of which a crash took a record
        self.sent: dict[tuple[str, bytes], int] = {}
        self.max_due = FEW_DUE[seed // 2 % len(FEW_DUE)] if seed % 2 else MAX_DUE
        self.workers = Workers(self, PATHS)

    def run(self) -> None:
        """Runs several lives of the store, each ended by a crash or a stop, and looks at what is left."""
        for _ in range(GENERATIONS):
            if self.chance.random() < 0.2:
                self.plan_fault(within=12)
            if self.boot():
                self.plan_fault(within=150)
                if self.live() and self.chance.random() < 0.3:
                    self.stop()
            self.crash()
        assert self.boot()
        self.end()

    # -- lives --------------------------------------------------------------

    def boot(self) -> bool:
        """Opens the store; False if it crashed on the way."""
        try:
            prepare(self.disk, "data")
            self.open()
        except (PowerLoss, OSError):
            return False
        self.disk.before = no_fault
        last = self.store.wal.last_lsn
        assert last >= self.promised, "an acknowledged record is lost"
        assert last in self.history or last == 0, "a record was never decided"
        self.lost = {
            change.incarnation
            for lsn, changes in self.history.items()
            if lsn > last
            for change in changes
            if not isinstance(change, SubscriptionChange)
        }
        self.history = {lsn: changes for lsn, changes in self.history.items() if lsn <= last}
        self.workers.forget()
        self.workers.cursors = {}
        self.durable = Model()
        self.durable.subscriptions.max_due = self.max_due
        self.folded = 0
        self.fold()
        self.promised = last
        self.compare_all()
        return True

    def open(self) -> None:
        check_copy(self.disk)
        catalog = SimulatedCatalog(self.disk)
        assert read_copy(self.disk) == SimulatedTables(self.disk).content, "the copy is another one"
        self.store = self.make_store(
            self.disk,
            catalog,
            segment_size=48 * 1024,
            limits=Limits(
                checkpoint_bytes=self.chance.choice((2_000, 10_000, 40_000)),
                max_unflushed=60_000,
                recent_limit=self.chance.choice((0, 3_000, 100_000)),
                max_loaded=self.chance.choice((2, 6, 100)),
            ),
        )
        wall = self.now + self.wall_offset
        self.now = self.store.timeline.begin(self, wall, 0)
        self.wall_offset = wall - self.now  # the last step may have been seen and not kept
        self.uses = {of: min(at, self.now) for of, at in self.uses.items()}
        self.store.configure(self.registry, ROOT)
        self.store.subscriptions.crowd = self.chance.choice((0, 1, 100))
        self.store.subscriptions.max_due = self.max_due
        self.executor = SimulatedExecutor(self.chance)
        self.failures: list[BaseException] = []
        self.store.shell = RecordingRunner(self.store, self)
        self.reader = Reader(self.store)
        self.attached: list[StreamState] = []
        self.held: list[StreamState] = []  # by reads that wait for the disk

    def live(self) -> bool:
        """Makes steps; False if the power went."""
        try:
            for _ in range(self.chance.randint(STEPS // 4, STEPS)):
                self.step()
                if self.store.failure is not None:
                    self.check_stopped()
                    break
        except PowerLoss:
            return False
        return True

    def stop(self) -> None:
        """Stops the store as a server does. A store that has not failed by then has made everything durable that it decided."""
        store = self.store
        try:
            store.detach()
            if store.failure is None:
                assert not store.commits.in_flight, "a stop left somebody without an answer"
                assert store.wal.durable_lsn == store.wal.last_lsn
                self.promised = store.wal.last_lsn
            store.close()
        except PowerLoss:
            return
        except OSError as error:
            told = store.failure
            if told is not error:
                raise AssertionError("a failure that nobody was told of") from error

    def crash(self) -> None:
        """Ends the process, and perhaps the machine's power with it."""
        self.disk.before = no_fault
        for state in getattr(self, "attached", ()):
            self.note_use(state)
        if self.chance.random() < 0.7:
            self.disk.lose_power()

    def end(self) -> None:
        """The last life: everything can be read, written, checkpointed and swept."""
        for path in PATHS:
            self.send(append(path, b"1", "application/json", closes=True))
        self.settle()
        self.store.shell.checkpoint_due()
        self.rest()
        assert self.store.meta.lsn == self.store.wal.last_lsn
        self.compare_all()
        self.workers.drain()
        self.compare_all()
        self.now += 60 * SECOND
        for _ in range(20):
            self.sweep()
            self.settle()
        for path in self.store.paths():
            state = self.wait(self.store.find(path))
            assert state is not None
            assert state.lifetime.ttl is None, "a stream outlived its time"
            assert not state.expired(self.now), "a stream outlived its date"
        before = self.now
        self.stop()
        self.open()
        assert abs(self.now - before) < TOLERANCE, "a clean restart sets steady time"
        self.fold()
        self.compare_all()

    def plan_fault(self, *, within: int) -> None:
        """Chooses the disk call at which something goes wrong, if any does."""
        self.fault = kind = self.chance.choice(
            ("none", "power", "power", "power", "error", "full", "handles")
        )
        at = self.disk.calls + self.chance.randint(1, within)
        length = self.chance.randint(1, 30)

        def before(name: str) -> None:
            calls = self.disk.calls
            if kind == "power" and calls == at:
                raise PowerLoss
            if kind == "error" and calls == at:
                raise OSError(errno.EIO, os.strerror(errno.EIO), name)
            if kind == "full" and at <= calls < at + length and name in GROWING:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
            if kind == "handles" and at <= calls < at + length and name == "open":
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)

        self.disk.before = before

    # -- steps --------------------------------------------------------------

    def step(self) -> None:
        action = self.chance.choices(tuple(ACTIONS), tuple(ACTIONS.values()))[0]
        try:
            getattr(self, action)()
        except (OSError, Unavailable):
            return  # a read failed; that is an answer too

    def command(self) -> None:
        path = self.chance.choice(PATHS)
        kind = self.chance.random()
        if kind < 0.25:
            self.send(self.a_create(path))
        elif kind < 0.35:
            self.send(Delete(path))
        else:
            self.send(self.an_append(path))

    def a_create(self, path: str) -> Command:
        chance = self.chance
        lifetime = chance.choice(LIFETIMES)
        closes = chance.random() < 0.1
        if chance.random() < 0.4:
            source = chance.choice(PATHS)
            return create(path, None, lifetime=lifetime, closes=closes, fork=self.a_fork(source))
        media = chance.choice(TYPES)
        body = self.a_body(media) if chance.random() < 0.5 else b""
        return create(path, media, body, lifetime=lifetime, closes=closes)

    def a_fork(self, source: str) -> Fork:
        state = self.wait(self.store.find(source))
        if state is None or self.chance.random() < 0.5:
            return Fork(source, None, None)
        name = state.name(self.chance.choice((0, state.visible_tail)))
        return Fork(source, parse(name), self.chance.choice((None, 0, 1)))

    def an_append(self, path: str) -> Command:
        chance = self.chance
        state = self.store.states.get(path)
        media = state.media.text if state is not None and chance.random() < 0.95 else TYPES[0]
        closes = chance.random() < 0.08
        body = b"" if closes and chance.random() < 0.5 else self.a_body(media)
        stamp = None
        if chance.random() < 0.5:
            producer = chance.choice((b"p", b"q"))
            seq = max(0, self.sent.get((path, producer), 0) + chance.choice((0, 0, 0, -1, 1)))
            self.sent[path, producer] = seq + 1
            stamp = Stamp(producer, chance.choice((0, 0, 0, 1)), seq)
        seq_text = b"%08d" % self.disk.calls if chance.random() < 0.1 else None
        return append(path, body, media, closes=closes, stamp=stamp, seq=seq_text)

    def a_body(self, media: str) -> bytes:
        size = self.chance.choice((1, 5, 40, 40, 600, 700, 5_000))
        if media == TYPES[0]:
            if size == 1:  # as deep as is allowed
                return b'{"v":' * MAX_JSON_DEPTH + b"1" + b"}" * MAX_JSON_DEPTH
            value = b'{"v":"%s"}' % (b"x" * size)
            return b"[" + b",".join([value] * self.chance.randint(1, 3)) + b"]"
        return self.chance.randbytes(size) if media == TYPES[2] else b"t" * size

    def send(self, command: Command) -> Ticket[Any] | None:
        """Has the store decide a command; None if it was refused before that."""
        store = self.store
        resolved = command
        if isinstance(command, Create):
            try:
                resolved = self.wait(forks.resolve(store, self.reader, command, self.now))
            except StreamError:
                return None
        ticket = store.execute(resolved, self.now)
        rests_on = store.wal.last_lsn

        def answered(done: Ticket[Any]) -> None:
            if is_abandoned(done):
                return
            assert rests_on <= store.wal.durable_lsn, "answered before it was durable"
            self.promised = max(self.promised, rests_on)

        ticket.add_callback(answered)
        return ticket

    def settle(self) -> None:
        """Makes everything durable that is in flight."""
        while self.store.commits.in_flight:
            self.go_on()
        self.fold()

    def rest(self) -> None:
        """Lets everything that has begun come to its end."""
        while not self.executor.is_idle:
            self.go_on()
        self.fold()

    def go_on(self) -> None:
        self.executor.turn()
        for lane in Lane:
            self.executor.run(lane)
            self.executor.tell()

    def turn(self) -> None:
        self.executor.turn()

    def commit(self) -> None:
        self.executor.run(Lane.COMMIT)

    def write_checkpoint(self) -> None:
        self.executor.run(Lane.CHECKPOINT)

    def tell(self) -> None:
        self.executor.tell()
        self.fold()

    def fire(self) -> None:
        self.executor.fire()

    def checkpoint(self) -> None:
        self.store.shell.checkpoint_due()

    def pass_time(self) -> None:
        if self.chance.random() < 0.2:
            self.wall_offset = self.chance.choice(SET_CLOCK)
            self.store.timeline.see(self.now, self.now + self.wall_offset)
        until = self.now + self.chance.choice((1, SECOND // 10, SECOND, 4 * SECOND))
        for _ in range(200):
            due = self.store.next_deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.sweep()
        self.now = until
        self.workers.pass_time()

    def sweep(self) -> None:
        for path, incarnation in self.store.due(self.now):
            self.send(Expire(path, incarnation))

    def read(self) -> None:
        state = self.living(self.chance.choice(PATHS))
        if state is None:
            return
        self.use(state)
        self.compare_bytes(state, self.chance.choice((1, 50, 1_000, 100_000)))

    def hold(self) -> None:
        """A read begins to wait for the disk."""
        state = self.living(self.chance.choice(PATHS))
        if state is not None:
            self.held = [*self.held[-2:], state]

    def attach(self) -> None:
        state = self.living(self.chance.choice(PATHS))
        if self.held and self.chance.random() < 0.5:
            state = self.held.pop()
        if state is not None and not state.removed:
            self.use(state)
            state.readers += 1
            self.attached.append(state)

    def detach(self) -> None:
        if self.attached:
            state = self.attached.pop()
            state.readers -= 1
            self.use(state)

    def work(self) -> None:
        """Somebody does something about subscriptions."""
        self.workers.act()

    def look(self) -> None:
        """What readers see is what the durable records make."""
        self.fold()
        self.promised = max(self.promised, self.store.wal.durable_lsn)
        for path in [*PATHS, REGISTRY.path]:
            self.compare_visible(path)
        for state in self.attached:
            seen = self.wait(self.store.find(state.path))
            assert state.removed or seen is state, "a live reader hears of nothing any more"

    # -- the oracle ---------------------------------------------------------

    def fold(self) -> None:
        """Brings the model of what is durable up to the store's word."""
        while self.folded < self.store.wal.durable_lsn:
            self.folded += 1
            changes = self.history[self.folded]
            durable = self.durable
            self.workers.before(self.folded, changes, durable.subscriptions, durable.states)
            durable.apply(changes)
            self.workers.after(self.folded, durable.subscriptions, durable.states)
            for change in changes:
                if isinstance(change, Created | Appended | Touched):
                    self.uses[change.incarnation] = max(
                        change.at, self.uses.get(change.incarnation, 0)
                    )

    def use(self, state: StreamState) -> None:
        self.store.touch(state, self.now)
        self.note_use(state)

    def note_use(self, state: StreamState) -> None:
        self.uses[state.incarnation] = max(self.now, self.uses.get(state.incarnation, 0))

    def living(self, path: str) -> StreamState | None:
        state = self.wait(self.store.find(path))
        if state is None or state.visible_soft_deleted or state.expired(self.now):
            return None
        return state

    def compare_visible(self, path: str) -> StreamState | None:
        seen = self.wait(self.store.find(path))
        expected = self.durable.states.get(path)
        if expected is None or seen is None:
            assert seen is expected, f"{path} is not what it should be"
            return None
        assert seen.incarnation == expected.incarnation
        assert seen.visible_tail == expected.tail
        assert seen.visible_closed == expected.closed
        assert seen.visible_soft_deleted == expected.soft_deleted
        return seen

    def compare_bytes(self, state: StreamState, cap: int) -> None:
        expected = self.durable.content(self.durable.states[state.path])
        position, read = 0, b""
        while True:
            page = self.wait(self.reader.page(state, position, cap))
            read += page.data
            position = page.end
            if page.at_tail:
                break
            assert page.data
            if state.media.kind is Kind.JSON:
                assert page.data.endswith(b"},"), "a page was cut inside a value"
        assert read == expected, f"{state.path} has other bytes"

    def compare_all(self) -> None:
        """The whole store against the whole model."""
        listed = {path for path, state in self.durable.states.items() if not state.soft_deleted}
        assert set(self.store.paths()) == listed
        self.workers.compare(self.durable.subscriptions)
        for path, expected in self.durable.states.items():
            seen = self.compare_visible(path)
            assert seen is not None
            for field in COMPARED:
                assert getattr(seen, field) == getattr(expected, field), f"{path}: {field}"
            self.compare_bytes(seen, 3_000)
            self.compare_lifetime(seen)

    def compare_lifetime(self, state: StreamState) -> None:
        if state.lifetime == DATE:
            wall = self.now + self.wall_offset
            assert state.expired(self.now) == (wall >= (DATE.expires_at or 0))
        if state.lifetime.ttl is None or state.soft_deleted or state.readers:
            return
        ttl = state.lifetime.ttl * SECOND
        used = self.uses[state.incarnation]
        deadline = state.deadline()
        assert deadline is not None
        assert deadline <= used + ttl + ttl // 10, "a stream would live too long"
        if state.incarnation in self.lost:
            self.uses[state.incarnation] = state.touched_at  # the last use that was ever durable
        else:
            assert deadline >= used + ttl, "a stream would live too short"

    def check_stopped(self) -> None:
        """A store that has failed answers nothing and shows nothing new."""
        store = self.store
        assert self.fault in ("error", "power"), "the store stopped although nothing was lost"
        before = store.wal.durable_lsn
        assert self.failures == [store.failure]
        while not self.executor.is_idle:
            self.go_on()
        self.executor.fire()
        assert self.executor.is_idle, "a store that has failed goes on"
        assert store.wal.durable_lsn == before
        assert not store.commits.in_flight, "somebody waits for ever"
        assert is_abandoned(store.execute(create("/late", "text/plain"), self.now))

    def wait(self, ticket: Ticket[T]) -> T:
        while not ticket.done:
            self.executor.finish_read()
        return ticket.result()


def is_abandoned(ticket: Ticket[Any]) -> bool:
    try:
        ticket.result()
    except Abandoned:
        return True
    except StreamError:
        return False
    return False


def check_copy(disk: SimulatedDisk) -> None:
    """Whatever a crash leaves, the catalog's second copy is level with the catalog or one commit ahead."""
    copy = Copy(disk, CATALOG)
    copy.look()
    sealed = SimulatedTables(disk).get(META, META_KEY)
    meta = None if sealed is None else parse_meta(sealed)
    assert relate(meta, copy.state, copy.newest) in (Relation.LEVEL, Relation.AHEAD)


def read_copy(disk: SimulatedDisk) -> list[dict[bytes, bytes]]:
    """Returns the tables that the catalog's second copy makes."""
    tables: list[dict[bytes, bytes]] = [{} for _ in NAMES]
    copy = Copy(disk, CATALOG)
    copy.look()
    for payload in records_of(copy) if copy.state is not None else ():
        for table, key, sealed in operations(payload):
            if sealed is None:
                tables[table].pop(key, None)
            else:
                tables[table][key] = sealed
    return tables


def no_fault(_: str) -> None:
    """The disk works."""


GROWING = {"open", "write", "allocate", "catalog begin", "catalog commit"}
COMPARED = (
    "ancestry",
    "closed",
    "closed_by",
    "children",
    "created_at",
    "last_seq",
    "lifetime",
    "lineage",
    "media",
    "origin",
    "producers",
    "soft_deleted",
    "tail",
)
ACTIONS = {
    "command": 30,
    "turn": 16,
    "commit": 12,
    "write_checkpoint": 6,
    "tell": 14,
    "checkpoint": 4,
    "fire": 1,
    "pass_time": 4,
    "read": 6,
    "hold": 2,
    "attach": 1,
    "detach": 1,
    "look": 3,
    "work": 15,
}


def simulate(seed: int) -> None:
    """Runs one seed; a failure names it."""
    try:
        Simulation(seed).run()
    except BaseException as error:
        raise AssertionError(f"seed {seed} fails: make crash SEED0={seed} SEEDS=1") from error
