"""The crash simulator: each seed is one run of the real store on a simulated disk, watched by an oracle.

The store runs under its real `Runner`, on an executor that runs a job only when the simulation says so. Commits, checkpoints,
reads, their completions, turns of the loop, timers and stops therefore come in every order that threads could produce. The
simulation writes down each record when the store decides it. At any moment, readers must see exactly the state that results from the
durable records. After any crash or stop, the store must equal some prefix of the records, and that prefix must contain every record that
was acknowledged.
"""

import contextlib
import random
from collections.abc import Iterator
from typing import Any, TypeVar
from unittest.mock import patch

from durable_streams_server.errors import StreamError, Unavailable
from durable_streams_server.protocol.commands import Command, Create, Expire
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.protocol.subscriptions.state import MAX_DUE
from durable_streams_server.protocol.timeline import TOLERANCE
from durable_streams_server.storage.files import capture, gather
from durable_streams_server.storage.files.directory import prepare
from durable_streams_server.storage.files.executor import Lane
from durable_streams_server.storage.files.limits import Limits
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.ticket import Abandoned, Ticket
from durable_streams_server.streams import forks
from durable_streams_server.streams.reader import Reader
from durable_streams_server.testing.disk import PowerLoss, SimulatedDisk
from tests.crash.catalog_sums import open_catalog
from tests.crash.commands import Commands
from tests.crash.cursors import CursorOracle
from tests.crash.executor import SimulatedExecutor
from tests.crash.faults import no_fault, plan_fault
from tests.crash.model import ROOT
from tests.crash.oracle import REGISTRY, Oracle, streams_of
from tests.crash.recorders import History, RecordingRunner
from tests.crash.watching import Watching
from tests.crash.workers import Workers
from tests.crash.world import PATHS
from tests.requests import NOW, SECOND, append, create

T = TypeVar("T")

SET_CLOCK = (0, 3600 * SECOND, -3600 * SECOND)  # values of the wall clock minus steady time
FEW_DUE = (1, 2, 3)  # the number of cursors that a subscription keeps in half of the runs
LIVES = 4
STEPS = 120

#: The steps of a life, each with the weight with which it is drawn.
ACTIONS = {
    "send_command": 30,
    "turn_loop": 16,
    "run_commit": 12,
    "run_checkpoint_step": 6,
    "complete_job": 14,
    "begin_checkpoint": 4,
    "fire_timers": 1,
    "pass_time": 4,
    "read": 6,
    "begin_waiting_read": 2,
    "attach_reader": 1,
    "detach_reader": 1,
    "check_visible": 3,
    "act_on_subscriptions": 15,
    "probe": 1,
}


class Simulation(Watching):
    """One seeded run of several lives of the store, each ended by a crash or a stop.

    Args:
        seed: decides everything that happens.

    Attributes:
        history: the changes of each record that the store decided, by LSN.
        now: steady time in microseconds.
        wall_offset: wall-clock time minus steady time, in microseconds.
        promised: the LSN of the newest record that was acknowledged or shown to anybody.
    """

    store: FileStore
    reader: Reader
    executor: SimulatedExecutor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.chance = random.Random(seed)
        self.disk = SimulatedDisk(self.chance)
        self.history: History = {}
        self.now = NOW
        self.wall_offset = 0
        self.promised = 0
        self.registry = REGISTRY if self.chance.random() < 0.3 else None
        self.max_due = FEW_DUE[seed // 2 % len(FEW_DUE)] if seed % 2 else MAX_DUE
        self.attached: list[StreamState] = []
        self.held: list[StreamState] = []  # the states that reads hold while they wait for the disk
        self.failures: list[BaseException] = []
        self.fault = ""
        self.commands = Commands(self)
        self.workers = Workers(self)
        self.oracle = Oracle(self, CursorOracle(self, self.workers.sent))

    def run(self) -> None:
        """Runs every life of the store, and checks the data that the last one leaves."""
        for _ in range(LIVES):
            if self.chance.random() < 0.2:
                self.fault = plan_fault(self.disk, within=12)
            if self.boot():
                self.fault = plan_fault(self.disk, within=150)
                if self.live() and self.chance.random() < 0.3:
                    self.stop()
            self.crash()
        assert self.boot()
        self.end()

    # -- lives --------------------------------------------------------------

    def boot(self) -> bool:
        """Opens the store and compares it with the history. Returns False if the disk failed meanwhile."""
        try:
            prepare(self.disk, "data")
            self.open()
        except (PowerLoss, OSError):
            return False
        self.disk.before = no_fault
        last = self.store.wal.last_lsn
        assert last >= self.promised, "an acknowledged record is lost"
        assert last in self.history or last == 0, "a record was never decided"
        lost = [lsn for lsn in self.history if lsn > last]
        lost_streams = {stream for lsn in lost for stream in streams_of(self.history[lsn])}
        for lsn in lost:
            del self.history[lsn]
        self.workers.begin_life()
        self.oracle.begin_life(lost_streams)
        self.promised = last
        self.oracle.compare_all()
        return True

    def open(self) -> None:
        """Opens the store with random limits, and gives it a runner that the simulation drives."""
        catalog = open_catalog(self.disk, is_older=self.seed % 5 == 4)
        self.store = FileStore(
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
        # The store may not have saved the last step of the clock.
        self.wall_offset = wall - self.now
        self.oracle.turn_back_uses()
        self.store.configure(self.registry, ROOT)
        self.store.subscriptions.crowd = self.chance.choice((0, 1, 100))
        self.store.subscriptions.max_due = self.max_due
        self.executor = SimulatedExecutor(self.chance)
        self.failures = []
        self.store.shell = RecordingRunner(
            self.store, self.executor, self.failures.append, self.history
        )
        self.reader = Reader(self.store)
        self.attached = []
        self.held = []

    def live(self) -> bool:
        """Takes random steps. Returns False if the power failed."""
        try:
            for _ in range(self.chance.randint(STEPS // 4, STEPS)):
                self.step()
                self.raise_broken()
                if self.store.failure is not None:
                    self.check_stopped()
                    break
        except PowerLoss:
            return False
        return True

    def stop(self) -> None:
        """Stops the store as a server does. Unless the store has failed, everything that it decided must be durable then."""
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
        """Simulates a crash of the process, in most cases with a power loss."""
        self.disk.before = no_fault
        self.raise_broken()
        for state in self.attached:
            self.oracle.record_use(state)
        if self.chance.random() < 0.7:
            self.disk.lose_power()

    def end(self) -> None:
        """Checks in a last life that every stream can be read, written, flushed by a checkpoint and expired."""
        for path in PATHS:
            self.send(append(path, b"1", "application/json", closes=True))
        self.settle()
        self.store.shell.checkpoint_due()
        self.run_until_idle()
        assert self.store.meta.lsn == self.store.wal.last_lsn
        self.oracle.compare_all()
        self.workers.drain()
        self.oracle.compare_all()
        self.now += 60 * SECOND
        for _ in range(20):
            self.expire_due()
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
        self.oracle.follow()
        self.oracle.compare_all()

    def check_stopped(self) -> None:
        """Checks that a store that has failed answers nothing and shows nothing new."""
        store = self.store
        assert self.fault in ("error", "power"), "the store stopped although nothing was lost"
        before = store.wal.durable_lsn
        assert self.failures == [store.failure]
        while not self.executor.is_idle:
            self.run_everything_once()
        self.executor.fire()
        assert self.executor.is_idle, "a store that has failed goes on"
        assert store.wal.durable_lsn == before
        assert not store.commits.in_flight, "somebody waits for ever"
        assert is_abandoned(store.execute(create("/late", "text/plain"), self.now))

    # -- what commands, workers and oracles use -----------------------------

    def send(self, command: Command) -> Ticket[Any] | None:
        """Sends a command to the store. Returns None if it was refused before the store saw it."""
        store = self.store
        resolved = command
        if isinstance(command, Create):
            try:
                resolved = self.wait(forks.resolve(store, self.reader, command, self.now))
            except StreamError:
                return None
        return self.expect(store.execute(resolved, self.now))

    def expect(self, ticket: Ticket[T]) -> Ticket[T]:
        """Checks that a ticket resolves only once every record decided so far is durable, and notes that the records are acknowledged."""
        store = self.store
        rests_on = store.wal.last_lsn

        def answered(done: Ticket[T]) -> None:
            if is_abandoned(done):
                return
            self.promised = max(self.promised, rests_on)
            assert rests_on <= store.wal.durable_lsn, "answered before it was durable"

        self.watch(ticket, answered)
        return ticket

    def settle(self) -> None:
        """Runs the store until nothing is in flight."""
        while self.store.commits.in_flight:
            self.run_everything_once()
        self.oracle.follow()

    def wait(self, ticket: Ticket[T]) -> T:
        """Runs reads of the disk until a ticket is done, and returns its result."""
        while not ticket.done:
            self.executor.finish_read()
        return ticket.result()

    def run_until_idle(self) -> None:
        """Runs the store until no job is left."""
        while not self.executor.is_idle:
            self.run_everything_once()
        self.oracle.follow()

    def run_everything_once(self) -> None:
        """Makes one turn of the loop, and runs and completes one job of each lane."""
        self.executor.turn()
        for lane in Lane:
            self.executor.run(lane)
            self.executor.complete()
        self.raise_broken()

    def use(self, state: StreamState) -> None:
        """Lets a reader use a stream."""
        self.store.touch(state, self.now)
        self.oracle.record_use(state)

    def find_readable(self, path: str) -> StreamState | None:
        """Returns a stream that may be read, or None if the path has none."""
        state = self.wait(self.store.find(path))
        if state is None or state.visible_soft_deleted or state.expired(self.now):
            return None
        return state

    # -- steps --------------------------------------------------------------

    def step(self) -> None:
        """Takes one random step of `ACTIONS`."""
        action = self.chance.choices(tuple(ACTIONS), tuple(ACTIONS.values()))[0]
        try:
            getattr(self, action)()
        except (OSError, Unavailable):  # a failed read is a correct answer too
            return

    def send_command(self) -> None:
        self.send(self.commands.draw())

    def probe(self) -> None:
        if not (ticket := self.store.probe()).done:  # otherwise refused, and it rests on no record
            self.expect(ticket)

    def turn_loop(self) -> None:
        self.executor.turn()

    def run_commit(self) -> None:
        self.executor.run(Lane.COMMIT)

    def run_checkpoint_step(self) -> None:
        self.executor.run(Lane.CHECKPOINT)

    def complete_job(self) -> None:
        self.executor.complete()
        self.oracle.follow()

    def fire_timers(self) -> None:
        self.executor.fire()

    def begin_checkpoint(self) -> None:
        self.store.shell.checkpoint_due()

    def pass_time(self) -> None:
        """Advances steady time, expires streams on the way, and in some runs sets the wall clock."""
        if self.chance.random() < 0.2:
            self.wall_offset = self.chance.choice(SET_CLOCK)
            self.store.timeline.see(self.now, self.now + self.wall_offset)
        until = self.now + self.chance.choice((1, SECOND // 10, SECOND, 4 * SECOND))
        for _ in range(200):
            due = self.store.next_deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.expire_due()
        self.now = until
        self.workers.pass_time()

    def expire_due(self) -> None:
        for path, incarnation in self.store.due(self.now):
            self.send(Expire(path, incarnation))

    def read(self) -> None:
        state = self.find_readable(self.chance.choice(PATHS))
        if state is None:
            return
        self.use(state)
        self.oracle.compare_bytes(state, self.chance.choice((1, 50, 1_000, 100_000)))

    def begin_waiting_read(self) -> None:
        """Lets a read hold a stream's state while it waits for the disk."""
        state = self.find_readable(self.chance.choice(PATHS))
        if state is not None:
            self.held = [*self.held[-2:], state]

    def attach_reader(self) -> None:
        """Attaches a live reader to a stream, in half of the cases to one that a waiting read holds."""
        state = self.find_readable(self.chance.choice(PATHS))
        if self.held and self.chance.random() < 0.5:
            state = self.held.pop()
        if state is not None and not state.removed:
            self.use(state)
            state.readers += 1
            self.attached.append(state)

    def detach_reader(self) -> None:
        if self.attached:
            state = self.attached.pop()
            state.readers -= 1
            self.use(state)

    def act_on_subscriptions(self) -> None:
        self.workers.act()

    def check_visible(self) -> None:
        """Checks that readers see exactly the state that results from the durable records."""
        self.oracle.follow()
        self.promised = max(self.promised, self.store.wal.durable_lsn)
        self.oracle.compare_paths()
        for state in self.attached:
            seen = self.wait(self.store.find(state.path))
            assert state.removed or seen is state, "a live reader hears of nothing any more"


def is_abandoned(ticket: Ticket[Any]) -> bool:
    """Returns whether a ticket ended without an answer because the store stopped."""
    try:
        ticket.result()
    except Abandoned:
        return True
    except StreamError:
        return False
    return False


@contextlib.contextmanager
def single_pieces() -> Iterator[None]:
    """Makes each step of a checkpoint handle one piece of a stream, so that more can happen between two steps."""
    with patch.object(capture, "_PIECES", 1), patch.object(gather, "_RUN", 1):
        yield


def simulate(seed: int, *, single: bool = False) -> None:
    """Runs one seed.

    Args:
        seed: the seed.
        single: whether each step of a checkpoint handles one piece of a stream.

    Raises:
        AssertionError: the run failed. The message has the command that repeats it.
    """
    try:
        with single_pieces() if single else contextlib.nullcontext():
            Simulation(seed).run()
    except BaseException as error:
        command = f"make crash SEED0={seed} SEEDS=1"
        if single:
            command = f"python -m tests.crash.hunt {seed} 1 --single"
        raise AssertionError(f"seed {seed} fails: {command}") from error
