"""Tests of reads: reader threads do the reads that would block, and a read of a damaged or missing log is refused."""

import errno
import os
import threading
from pathlib import Path

import pytest

from durable_streams_server import CreateOptions
from durable_streams_server.errors import NotFound, StreamError, Unavailable
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.files.log_layout import path_of
from durable_streams_server.storage.files.system_file import SystemFile
from durable_streams_server.streams.file_store import FileBackedStreamStore
from tests.requests import append, create
from tests.storage.files.benches import (
    SEGMENT,
    RunnerBench,
    ThreadsBench,
    failing,
    settled,
    working,
)


async def cold_stream(bench: ThreadsBench, monkeypatch: pytest.MonkeyPatch) -> StreamState:
    """Returns a stream whose bytes are in a log only, on a disk whose reads would block."""
    await bench.run(create("/a"))
    for _ in range(5):
        await bench.run(append("/a", b"x" * 1_000))
    await bench.checkpointed()
    bench.store.logs.close()
    monkeypatch.setattr(SystemFile, "read_ready", lambda *_: None)
    state = bench.store.find("/a").result()
    assert state is not None
    return state


async def test_synchronous_cold_read_on_the_loop_is_answered_by_a_reader_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # TRAPS 21
    bench = ThreadsBench(tmp_path, recent_limit=0)
    await bench.run(create("/a"))
    await bench.run(append("/a", b"x" * 5_000))
    await bench.checkpointed()
    monkeypatch.setattr(SystemFile, "read_ready", lambda *_: None)  # every read would block
    state = bench.store.find("/a").result()
    assert state is not None
    read = bench.store.read_bytes(state.incarnation, 0, 5_000)
    assert not read.done
    bench.store.shell.wait_for(read)
    assert read.result() == b"x" * 5_000
    bench.close()


async def test_cold_log_is_not_read_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # TRAPS 21
    bench = ThreadsBench(tmp_path, recent_limit=0)
    state = await cold_stream(bench, monkeypatch)
    loops = threading.get_ident()
    calls: list[int] = []
    read = SystemFile.read

    def noted(file: SystemFile, size: int, position: int) -> bytes:
        calls.append(threading.get_ident())
        return read(file, size, position)

    monkeypatch.setattr(SystemFile, "read", noted)
    marks = bench.store.marks(state.incarnation, 2_500)
    content = bench.store.read_bytes(state.incarnation, 0, 5_000)
    assert not marks.done
    assert not content.done
    assert await settled(marks) == (2_000, 3_000, 3_000)
    assert await settled(content) == b"x" * 5_000
    assert calls
    assert loops not in calls
    bench.close()


async def test_reader_thread_refuses_a_damaged_log_with_stream_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = ThreadsBench(tmp_path, recent_limit=0)
    state = await cold_stream(bench, monkeypatch)
    log = tmp_path / path_of(state.incarnation)
    os.truncate(log, 4_000)
    os.truncate(f"{log}.idx", 24)
    with pytest.raises(StreamError) as caught:
        await settled(bench.store.read_bytes(state.incarnation, 0, 5_000))
    assert caught.value.code == "STREAM_DAMAGED"
    with pytest.raises(StreamError) as caught:
        await settled(bench.store.marks(state.incarnation, 2_500))
    assert caught.value.code == "STREAM_DAMAGED"
    bench.close()


async def test_read_of_a_stream_deleted_meanwhile_raises_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = ThreadsBench(tmp_path, recent_limit=0)
    state = await cold_stream(bench, monkeypatch)
    await bench.run(Delete("/a"))
    await bench.checkpointed()
    await bench.until(lambda: not (tmp_path / path_of(state.incarnation)).exists())
    with pytest.raises(NotFound):
        await settled(bench.store.read_bytes(state.incarnation, 0, 5_000))
    bench.close()


def test_read_without_a_free_file_handle_returns_503() -> None:
    bench = RunnerBench(recent_limit=0)
    state = bench.store.states["/a"]
    bench.store.logs.close()
    bench.disk.before = failing("open", errno.EMFILE)
    read = bench.store.read_bytes(state.incarnation, 0, 6)
    bench.run_all_jobs()
    with pytest.raises(Unavailable) as caught:
        read.result()
    assert (caught.value.status, caught.value.code) == (503, "NO_FILE_HANDLES")
    bench.disk.before = working
    read = bench.store.read_bytes(state.incarnation, 0, 6)
    bench.run_all_jobs()
    assert read.result() == b"before"


def test_fork_reads_source_despite_index_entries_of_unfinished_checkpoint(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path, segment_size=SEGMENT) as store:
        store.create("/source", "text/plain")
        store.append("/source", b"of the source")
        store.create("/fork", options=CreateOptions(forked_from="/source"))
    (index,) = (tmp_path / "logs").glob("*/*.idx")
    with index.open("ab") as file:
        file.write(bytes(48))  # entries of an unfinished checkpoint
    with FileBackedStreamStore(tmp_path, segment_size=SEGMENT) as store:
        state = store.find("/fork").result()
        assert state is not None
        (part,) = state.extents(0, state.visible_tail)
        assert store.read_bytes(*part).result() == b"of the source"
