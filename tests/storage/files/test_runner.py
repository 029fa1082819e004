"""The runner's states: what runs when, how a stop ends it, and that no failure goes unheard."""

import errno
import os
import random
from collections.abc import Callable
from functools import partial

import pytest

from durable_streams_server.errors import StreamDamaged, StreamError, Unavailable
from durable_streams_server.storage.files.executor import Lane
from durable_streams_server.storage.files.log_layout import KEPT, directory_of, path_of
from durable_streams_server.storage.files.runner import Runner
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.ticket import Abandoned
from durable_streams_server.testing.disk import SimulatedDisk
from tests.crash.executor import SimulatedExecutor
from tests.requests import NOW, append, create
from tests.storage.files.stores import content, new_disk, open_store, run


class Bench:
    """A store on a runner whose jobs run when the test says so."""

    def __init__(self, disk: SimulatedDisk | None = None, **options: int) -> None:
        self.disk = disk or new_disk()
        self.executor = SimulatedExecutor(random.Random(0))
        self.failures: list[BaseException] = []
        self.store = open_store(self.disk, **options)
        run(self.store, create("/a"), append("/a", b"before "))
        self.store.run_checkpoint()
        self.store.shell = Runner(*self.store.parts, self.executor, self.failures.append)

    def append(self, data: bytes) -> None:
        """Appends, and lets the runner write and publish it."""
        ticket = self.store.execute(append("/a", data), NOW)
        while not ticket.done:
            self.executor.turn()
            self.executor.run(Lane.COMMIT)
            self.executor.tell()
        ticket.result()

    def begin_checkpoint(self) -> None:
        """Begins a checkpoint, and brings it to its first job on the disk, which does not run yet."""
        self.store.shell.checkpoint_due()
        self.executor.turn()
        self.executor.turn()

    def rest(self) -> None:
        while not self.executor.is_idle:
            self.executor.turn()
            for lane in Lane:
                self.executor.run(lane)
                self.executor.tell()


def failing(call: str, code: int = errno.EIO) -> Callable[[str], None]:
    def before(name: str) -> None:
        if name == call:
            raise OSError(code, os.strerror(code), name)

    return before


def broken(_: object) -> None:
    raise ZeroDivisionError


def note(ended: list[int], number: int, _: object) -> None:
    ended.append(number)


def works(_: str) -> None:
    """The disk works."""


def reopened(disk: SimulatedDisk) -> FileStore:
    disk.before = works
    disk.lose_power()
    return open_store(disk)


def test_error_while_a_commit_is_published_stops_the_store_and_ends_every_ticket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    tickets = [bench.store.execute(command, NOW) for command in (create("/b"), create("/c"))]

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.store.states, "published", fail)
    bench.rest()
    assert isinstance(bench.store.failure, ZeroDivisionError)
    assert bench.failures == [bench.store.failure]
    for ticket in tickets:
        with pytest.raises(Abandoned):
            ticket.result()
    assert not bench.store.commits.in_flight


@pytest.mark.parametrize("call", ["write", "sync", "catalog begin"])
def test_a_checkpoint_that_fails_while_the_store_is_given_back_stops_it_and_loses_nothing(
    call: str,
) -> None:
    bench = Bench()
    bench.append(b"acknowledged")
    bench.begin_checkpoint()
    bench.disk.before = failing(call)  # the job runs while the stop waits for it
    bench.store.detach()
    assert isinstance(bench.store.failure, OSError)
    assert bench.failures == [bench.store.failure]
    bench.disk.before = works
    bench.store.close()
    assert content(reopened(bench.disk), "/a") == b"before acknowledged"


@pytest.mark.parametrize("steps", range(8))
def test_a_stop_in_any_phase_of_a_checkpoint_loses_nothing(steps: int) -> None:
    bench = Bench()
    bench.append(b"acknowledged")
    bench.store.shell.checkpoint_due()
    for _ in range(steps):
        bench.executor.turn()
        bench.executor.run(Lane.CHECKPOINT)
        bench.executor.tell()
    last = bench.store.execute(append("/a", b" late"), NOW)
    bench.store.detach()
    assert last.done
    bench.store.close()
    assert content(reopened(bench.disk), "/a") == b"before acknowledged late"


def test_a_checkpoint_cannot_begin_before_the_one_before_it_has_ended() -> None:
    bench = Bench()
    bench.append(b"acknowledged")
    bench.begin_checkpoint()
    with pytest.raises(RuntimeError, match="one is running"):
        next(bench.store.checkpoints.steps())
    bench.rest()
    assert bench.store.meta.lsn == bench.store.wal.last_lsn


@pytest.mark.parametrize("where", ["_tidy", "_commit"])
def test_an_exception_of_any_kind_in_a_step_stops_the_store_and_is_told(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    bench.append(b"acknowledged")
    fault = ZeroDivisionError("a fault of ours")

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(
        f"durable_streams_server.storage.files.checkpoint.Checkpoints.{where}", fail
    )
    pending = bench.store.execute(append("/a", b"!"), NOW)
    bench.store.shell.checkpoint_due()
    bench.rest()
    assert bench.failures == [fault]
    assert pending.done
    with pytest.raises(Abandoned, match="a fault of ours"):
        bench.store.execute(append("/a", b"?"), NOW).result()
    bench.store.detach()
    bench.store.close()


def test_an_exception_in_a_step_on_the_loop_stops_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.append(b"acknowledged")
    monkeypatch.setattr(bench.store.ledger, "begin_capture", lambda: 1 / 0)
    bench.store.shell.checkpoint_due()
    bench.rest()
    assert isinstance(bench.store.failure, ZeroDivisionError)


def test_a_listener_and_a_callback_that_fail_cost_nobody_else_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    heard: list[int] = []
    bench.store.listen(broken)
    bench.store.listen(lambda published: heard.append(len(published)))
    tickets = [bench.store.execute(append("/a", b"%d" % n), NOW) for n in range(3)]
    tickets[0].add_callback(broken)
    bench.rest()
    assert all(ticket.done for ticket in tickets)
    assert heard == [3]
    assert bench.store.failure is None
    assert [record.message for record in caplog.records] == [
        "a listener of the store failed",
        "a callback of a ticket failed",
    ]


def test_a_failure_ends_every_ticket_in_the_order_in_which_they_were_decided() -> None:
    bench = Bench()
    bench.disk.before = failing("write_durably")
    ended: list[int] = []
    for number in range(4):
        ticket = bench.store.execute(append("/a", b"x"), NOW)
        ticket.add_callback(partial(note, ended, number))
        if number == 1:
            bench.executor.turn()  # the first two are being written
    bench.rest()
    assert ended == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("count", "size", "shared"),
    [(1, 1, True), (63, 1, True), (64, 1, False), (1, 64 * 1024, False)],
)
def test_little_that_came_during_a_commit_waits_for_those_who_are_answered_now(
    count: int, size: int, shared: bool
) -> None:
    bench = Bench()
    first = bench.store.execute(append("/a", b"first"), NOW)
    bench.executor.turn()  # it is being written
    waiting = [bench.store.execute(append("/a", b"x" * size), NOW) for _ in range(count)]
    bench.executor.run(Lane.COMMIT)
    bench.executor.tell()
    assert first.done
    again = bench.store.execute(append("/a", b"second"), NOW)  # its client has had the answer
    bench.executor.turn()
    bench.executor.run(Lane.COMMIT)
    bench.executor.tell()
    assert all(ticket.done for ticket in waiting)
    assert again.done is shared
    bench.rest()
    assert again.done


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_a_checkpoint_without_a_file_handle_is_tried_again(code: int) -> None:
    bench = Bench()
    run_other = bench.store.execute(create("/b", body=b"new"), NOW)
    bench.rest()
    run_other.result()
    bench.disk.before = failing("open", code)
    bench.store.shell.checkpoint_due()
    bench.rest()
    assert bench.store.failure is None
    assert bench.store.ledger.must_pause
    assert not bench.store.ledger.found_disk_full
    bench.append(b"acknowledged")
    bench.disk.before = works
    bench.store.run_checkpoint()
    assert bench.store.meta.lsn == bench.store.wal.last_lsn
    assert content(reopened(bench.disk), "/b") == b"new"


def test_a_damaged_log_stops_neither_checkpoints_nor_other_streams() -> None:
    bench = Bench()
    run_other = bench.store.execute(create("/b", body=b"whole"), NOW)
    bench.rest()
    run_other.result()
    state = bench.store.states["/a"]
    for name in bench.disk.names(directory_of(state.incarnation)):
        if name.endswith(".idx"):
            bench.disk.unlink(f"{directory_of(state.incarnation)}/{name}")
    bench.store.logs.close()
    bench.append(b"acknowledged")
    bench.store.shell.checkpoint_due()
    bench.rest()
    assert bench.store.failure is None
    assert bench.store.meta.lsn == bench.store.wal.last_lsn
    with pytest.raises(StreamDamaged):
        bench.store.execute(append("/a", b"more"), NOW).result()
    again = reopened(bench.disk)
    with pytest.raises(StreamDamaged):
        run(again, append("/a", b"more"))
    run(again, append("/b", b" and more"))
    again.run_checkpoint()
    assert content(reopened(bench.disk), "/b") == b"whole and more"
    assert bench.disk.content(path_of(state.incarnation) + KEPT) == b"acknowledged"


def test_a_damaged_log_does_not_keep_the_store_from_starting() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", body=b"one"), create("/b", body=b"two"))
    store.run_checkpoint()
    run(store, append("/a", b" more"), append("/b", b" more"))  # in the write-ahead log alone
    incarnation = store.states["/a"].incarnation
    disk.unlink(path_of(incarnation))
    disk.sync_directory(directory_of(incarnation))
    again = reopened(disk)
    with pytest.raises(StreamError):
        run(again, append("/a", b"!"))
    again.run_checkpoint()
    again = reopened(disk)
    assert content(again, "/b") == b"two more"
    assert disk.content(path_of(again.states["/a"].incarnation) + KEPT) == b" more"


def test_waiting_for_a_ticket_ends_when_the_store_fails() -> None:
    bench = Bench()
    bench.begin_checkpoint()
    ticket = bench.store.execute(append("/a", b"x"), NOW)
    bench.disk.before = failing("write_durably")
    bench.store.shell.wait_for(ticket)
    with pytest.raises(Abandoned):
        ticket.result()


def test_a_read_without_a_file_handle_is_told_to_come_back() -> None:
    bench = Bench(recent_limit=0)
    state = bench.store.states["/a"]
    bench.store.logs.close()
    bench.disk.before = failing("open", errno.EMFILE)
    read = bench.store.read_bytes(state.incarnation, 0, 6)
    bench.rest()
    with pytest.raises(Unavailable) as caught:
        read.result()
    assert (caught.value.status, caught.value.code) == (503, "NO_FILE_HANDLES")
    bench.disk.before = works
    read = bench.store.read_bytes(state.incarnation, 0, 6)
    bench.rest()
    assert read.result() == b"before"
