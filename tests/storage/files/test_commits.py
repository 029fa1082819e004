"""Tests of commits: the store answers a command and publishes its change only once the change is durable, and stops after a failure."""

import errno
from pathlib import Path
from unittest import mock

import pytest

from durable_streams_server.errors import StorageFull, StreamError, Unavailable
from durable_streams_server.storage.files import refusals
from durable_streams_server.storage.ticket import Abandoned
from tests.requests import NOW, append, create
from tests.storage.files.benches import ThreadsBench, settled
from tests.storage.files.stores import content, new_disk, open_store, run


async def test_store_answers_and_publishes_append_only_once_it_is_durable(
    tmp_path: Path,
) -> None:  # TRAPS 12, 19
    bench = ThreadsBench(tmp_path)
    await bench.run(create("/a"))
    bench.disk.close_gate()
    first = bench.store.execute(append("/a", b"x", closes=True), NOW)
    refused = bench.store.execute(append("/a", b"y"), NOW)
    closed_again = bench.store.execute(append("/a", closes=True), NOW)
    await bench.disk.held_write()
    state = bench.store.find("/a").result()
    assert state is not None
    assert (state.visible_tail, state.visible_closed) == (0, False)
    assert [ticket.done for ticket in (first, refused, closed_again)] == [False] * 3
    bench.disk.gate.set()
    await settled(closed_again)
    assert first.done
    with pytest.raises(StreamError):
        refused.result()
    assert (state.visible_tail, state.visible_closed) == (1, True)
    bench.close()


async def test_queued_appends_are_written_in_few_disk_writes(tmp_path: Path) -> None:  # TRAPS 20
    bench = ThreadsBench(tmp_path)
    await bench.run(create("/a"))
    bench.disk.close_gate()
    commits = bench.store.commits
    with mock.patch.object(commits, "write", wraps=commits.write) as write:
        tickets = [bench.store.execute(append("/a", b"%03d" % n), NOW) for n in range(500)]
        bench.disk.gate.set()
        for ticket in tickets:
            await settled(ticket)
    assert write.call_count <= 3
    await settled(bench.store.execute(append("/a", b"end"), NOW))
    bench.close()
    again = ThreadsBench(tmp_path)
    state = again.store.find("/a").result()
    assert state is not None
    read = again.store.read_bytes(state.incarnation, 0, state.visible_tail)
    await settled(read)
    assert read.result() == b"".join(b"%03d" % n for n in range(500)) + b"end"
    again.close()


async def test_failed_write_stops_the_store_for_good(tmp_path: Path) -> None:  # TRAPS 6, 13
    bench = ThreadsBench(tmp_path)
    await bench.run(create("/a"))
    bench.disk.errors["write_durably"] = errno.EIO
    lost = [bench.store.execute(append("/a", b"x"), NOW) for _ in range(3)]
    await bench.until(lambda: bench.failures)
    (failure,) = bench.failures
    assert isinstance(failure, OSError)
    assert (failure.errno, failure.filename) == (errno.EIO, "write_durably")
    bench.disk.errors.clear()
    later = bench.store.execute(append("/a", b"y"), NOW)
    duplicate = bench.store.execute(create("/a"), NOW)
    for ticket in (*lost, later, duplicate):
        with pytest.raises(Abandoned, match="write_durably"):
            await settled(ticket)
    state = bench.store.find("/a").result()
    assert state is not None
    assert state.visible_tail == 0
    bench.close()
    again = ThreadsBench(tmp_path)
    state = again.store.find("/a").result()
    assert state is not None
    assert state.tail == 0
    again.close()


async def test_store_failure_abandons_every_pending_ticket(tmp_path: Path) -> None:
    bench = ThreadsBench(tmp_path)
    await bench.run(create("/a"))
    bench.disk.close_gate()
    in_flight = [bench.store.execute(append("/a", b"x"), NOW)]
    await bench.disk.held_write()  # the first append is being written; the second one is queued
    in_flight.append(bench.store.execute(append("/a", b"y"), NOW))
    bench.store.commits.fail(OSError(errno.EIO, "a checkpoint failed"))
    assert not in_flight[0].done
    bench.disk.gate.set()
    for ticket in in_flight:
        with pytest.raises(Abandoned, match="a checkpoint failed"):
            await settled(ticket)
    bench.close()


def test_error_after_a_record_got_its_lsn_stops_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", "text/plain"), append("/a", b"x", "text/plain"))
    broken = RuntimeError("a fault of ours")

    def fail(*_: object) -> None:
        raise broken

    with monkeypatch.context() as patched:
        patched.setattr(store.ledger, "apply", fail)
        failed = store.execute(append("/a", b"y", "text/plain"), NOW)
    for ticket in (failed, store.execute(append("/a", b"z", "text/plain"), NOW)):
        with pytest.raises(Abandoned, match="a fault of ours"):
            ticket.result()
    assert store.failure is broken
    assert content(open_store(disk), "/a") == b"x"


async def test_probe_resolves_only_once_its_record_is_durable(tmp_path: Path) -> None:  # TRAPS 50
    bench = ThreadsBench(tmp_path)
    bench.disk.close_gate()
    probe = bench.store.probe()
    await bench.disk.held_write()
    assert not probe.done
    bench.disk.gate.set()
    await settled(probe)
    assert bench.store.wal.durable_lsn == 1
    bench.close()


async def test_probe_fails_once_the_store_has_stopped(tmp_path: Path) -> None:  # TRAPS 50
    bench = ThreadsBench(tmp_path)
    bench.disk.errors["write_durably"] = errno.EIO
    for _ in range(2):  # the first probe stops the store
        with pytest.raises(Abandoned, match="write_durably"):
            await settled(bench.store.probe())
    bench.close()


def test_probe_is_refused_while_the_disk_is_full() -> None:  # TRAPS 50
    disk = new_disk()
    store = open_store(disk)
    store.headroom.give_up_ballast()
    with pytest.raises(StorageFull):
        store.probe().result()
    store.run_checkpoint()
    assert not store.headroom.is_low
    probe = store.probe()
    store.shell.wait_for(probe)
    assert probe.result() is None


def test_probe_is_refused_while_appends_wait_for_a_checkpoint() -> None:
    store = open_store(new_disk(), max_unflushed=1000)
    run(store, create("/a"))
    store.execute(append("/a", b"x" * 2000), NOW)
    store.commit_once()
    with pytest.raises(Unavailable):
        store.execute(append("/a", b"y"), NOW).result()
    with pytest.raises(Unavailable):
        store.probe().result()


def test_probe_is_refused_while_no_segment_is_free() -> None:
    store = open_store(new_disk())
    with (
        mock.patch.object(store.wal, "reserve", side_effect=refusals.behind()),
        pytest.raises(Unavailable),
    ):
        store.probe().result()
    assert store.commits.in_flight == 0


def test_probes_do_not_make_the_log_grow_without_bound() -> None:
    disk = new_disk()
    store = open_store(disk, segment_size=64 * 1024)
    sizes = set()
    checkpoints = 0
    for _ in range(30_000):
        lsn = store.meta.lsn
        probe = store.probe()
        store.shell.wait_for(probe)
        assert probe.result() is None
        if store.meta.lsn > lsn:
            checkpoints += 1
            sizes.add(sum(len(disk.content(name)) for name in disk.paths()))
    assert checkpoints > 10
    assert max(sizes) - min(sizes) < 64 * 1024


def test_records_of_probes_survive_a_power_loss() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a"))
    store.shell.wait_for(store.probe())
    run(store, append("/a", b"x"))
    store.shell.wait_for(store.probe())
    disk.lose_power()
    again = open_store(disk)
    assert again.wal.last_lsn == 4
    assert content(again, "/a") == b"x"
