"""Tests of the runner: it runs jobs in order, stops cleanly, and reports every failure."""

import errno
from functools import partial

import pytest

from durable_streams_server.errors import StreamDamaged, StreamError
from durable_streams_server.storage.files.executor import Lane
from durable_streams_server.storage.files.ledger import Ledger
from durable_streams_server.storage.files.log_layout import KEPT, directory_of, path_of
from durable_streams_server.storage.slow_work import DISK_READ, HELD_BACK
from durable_streams_server.storage.ticket import Abandoned
from tests.requests import NOW, append, create
from tests.storage.files.benches import RunnerBench, failing, reopened, working
from tests.storage.files.stores import content, new_disk, open_store, run


def broken(_: object) -> None:
    raise ZeroDivisionError


def note(ended: list[int], number: int, _: object) -> None:
    ended.append(number)


def test_error_while_publishing_stops_the_store_and_abandons_every_ticket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = RunnerBench()
    tickets = [bench.store.execute(command, NOW) for command in (create("/b"), create("/c"))]

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.store.states, "publish", fail)
    bench.run_all_jobs()
    assert isinstance(bench.store.failure, ZeroDivisionError)
    assert bench.failures == [bench.store.failure]
    for ticket in tickets:
        with pytest.raises(Abandoned):
            ticket.result()
    assert not bench.store.commits.in_flight


@pytest.mark.parametrize("call", ["write", "sync", "catalog begin"])
def test_failed_checkpoint_during_detach_loses_no_acknowledged_append(
    call: str,
) -> None:
    bench = RunnerBench()
    bench.append(b"acknowledged")
    bench.begin_checkpoint()
    bench.disk.before = failing(call)  # the job runs during the detach
    bench.store.detach()
    assert isinstance(bench.store.failure, OSError)
    assert bench.failures == [bench.store.failure]
    bench.disk.before = working
    bench.store.close()
    assert content(reopened(bench.disk), "/a") == b"before acknowledged"


@pytest.mark.parametrize("steps", range(8))
def test_detach_in_any_phase_of_a_checkpoint_loses_nothing(steps: int) -> None:
    bench = RunnerBench()
    bench.append(b"acknowledged")
    bench.store.shell.checkpoint_due()
    for _ in range(steps):
        bench.executor.turn()
        bench.executor.run(Lane.CHECKPOINT)
        bench.executor.complete()
    last = bench.store.execute(append("/a", b" late"), NOW)
    bench.store.detach()
    assert last.done
    bench.store.close()
    assert content(reopened(bench.disk), "/a") == b"before acknowledged late"


def test_checkpoint_cannot_begin_while_another_is_running() -> None:
    bench = RunnerBench()
    bench.append(b"acknowledged")
    bench.begin_checkpoint()
    with pytest.raises(RuntimeError, match="one is running"):
        next(bench.store.checkpoints.steps())
    bench.run_all_jobs()
    assert bench.store.meta.lsn == bench.store.wal.last_lsn


@pytest.mark.parametrize("where", ["_tidy", "_commit"])
def test_exception_in_disk_step_of_checkpoint_stops_the_store(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = RunnerBench()
    bench.append(b"acknowledged")
    fault = ZeroDivisionError("a fault of ours")

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(
        f"durable_streams_server.storage.files.checkpoint.Checkpoints.{where}", fail
    )
    pending = bench.store.execute(append("/a", b"!"), NOW)
    bench.store.shell.checkpoint_due()
    bench.run_all_jobs()
    assert bench.failures == [fault]
    assert pending.done
    with pytest.raises(Abandoned, match="a fault of ours"):
        bench.store.execute(append("/a", b"?"), NOW).result()
    bench.store.detach()
    bench.store.close()


def test_exception_in_event_loop_step_of_checkpoint_stops_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = RunnerBench()
    bench.append(b"acknowledged")
    monkeypatch.setattr(bench.store.ledger, "begin_capture", lambda: 1 / 0)
    bench.store.shell.checkpoint_due()
    bench.run_all_jobs()
    assert isinstance(bench.store.failure, ZeroDivisionError)


def test_failing_listener_or_callback_does_not_affect_other_tickets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = RunnerBench()
    heard: list[int] = []
    bench.store.listen(broken)
    bench.store.listen(lambda published: heard.append(len(published)))
    tickets = [bench.store.execute(append("/a", b"%d" % n), NOW) for n in range(3)]
    tickets[0].add_callback(broken)
    bench.run_all_jobs()
    assert all(ticket.done for ticket in tickets)
    assert heard == [3]
    assert bench.store.failure is None
    assert [record.message for record in caplog.records] == [
        "a listener of the store failed",
        "a callback of a ticket failed",
    ]


def test_store_failure_abandons_tickets_in_order_of_their_commands() -> None:
    bench = RunnerBench()
    bench.disk.before = failing("write_durably")
    ended: list[int] = []
    for number in range(4):
        ticket = bench.store.execute(append("/a", b"x"), NOW)
        ticket.add_callback(partial(note, ended, number))
        if number == 1:
            bench.executor.turn()  # the first two are being written
    bench.run_all_jobs()
    assert ended == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("count", "size", "shared"),
    [(1, 1, True), (63, 1, True), (64, 1, False), (1, 64 * 1024, False)],
)
def test_small_commit_waits_one_loop_turn_for_more_records(
    count: int, size: int, shared: bool
) -> None:
    bench = RunnerBench()
    first = bench.store.execute(append("/a", b"first"), NOW)
    bench.executor.turn()  # the first append is being written
    waiting = [bench.store.execute(append("/a", b"x" * size), NOW) for _ in range(count)]
    bench.executor.run(Lane.COMMIT)
    bench.executor.complete()
    assert first.done
    again = bench.store.execute(
        append("/a", b"second"), NOW
    )  # the client sends it after the first answer
    bench.executor.turn()
    bench.executor.run(Lane.COMMIT)
    bench.executor.complete()
    assert all(ticket.done for ticket in waiting)
    assert again.done is shared
    bench.run_all_jobs()
    assert again.done


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_checkpoint_without_a_free_file_handle_is_retried(code: int) -> None:
    bench = RunnerBench()
    created = bench.store.execute(create("/b", body=b"new"), NOW)
    bench.run_all_jobs()
    created.result()
    bench.disk.before = failing("open", code)
    bench.store.shell.checkpoint_due()
    bench.run_all_jobs()
    assert bench.store.failure is None
    assert bench.store.ledger.must_pause
    assert not bench.store.ledger.found_disk_full
    bench.append(b"acknowledged")
    bench.disk.before = working
    bench.store.run_checkpoint()
    assert bench.store.meta.lsn == bench.store.wal.last_lsn
    assert content(reopened(bench.disk), "/b") == b"new"


def test_damaged_log_stops_neither_checkpoints_nor_other_streams() -> None:
    bench = RunnerBench()
    created = bench.store.execute(create("/b", body=b"whole"), NOW)
    bench.run_all_jobs()
    created.result()
    state = bench.store.states["/a"]
    for name in bench.disk.names(directory_of(state.incarnation)):
        if name.endswith(".idx"):
            bench.disk.unlink(f"{directory_of(state.incarnation)}/{name}")
    bench.store.logs.close()
    bench.append(b"acknowledged")
    bench.store.shell.checkpoint_due()
    bench.run_all_jobs()
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


def test_store_with_a_damaged_log_can_be_opened() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", body=b"one"), create("/b", body=b"two"))
    store.run_checkpoint()
    run(
        store, append("/a", b" more"), append("/b", b" more")
    )  # these bytes are in the write-ahead log only
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


def test_wait_for_returns_if_store_fails_meanwhile() -> None:
    bench = RunnerBench()
    bench.begin_checkpoint()
    ticket = bench.store.execute(append("/a", b"x"), NOW)
    bench.disk.before = failing("write_durably")
    bench.store.shell.wait_for(ticket)
    with pytest.raises(Abandoned):
        ticket.result()


def test_disk_reads_and_held_back_commits_count_as_slow_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = RunnerBench()
    now = 1000.0
    work = bench.store.slow_work
    work.clock = lambda: now
    read = bench.store.shell.read(lambda: b"x")
    now += 2
    bench.run_all_jobs()
    assert read.result() == b"x"
    assert work.between(0, 1e9) == {DISK_READ: 2.0}

    bench.begin_checkpoint()
    monkeypatch.setattr(Ledger, "is_pressed", True)
    held = bench.store.execute(append("/a", b"x"), NOW)
    bench.executor.turn()
    now += 3
    monkeypatch.undo()
    bench.run_all_jobs()
    assert held.done
    assert work.between(0, 1e9) == {DISK_READ: 2.0, HELD_BACK: 3.0}
