"""`take_snapshot` reads every counter of the server."""

import asyncio
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.observing import families as f
from durable_streams_server.http.observing.families import FAMILIES, Family
from durable_streams_server.http.observing.snapshot import Buckets, Snapshot
from tests.http import asgi_driver
from tests.http.asgi_driver import start_live_read
from tests.http.socket_driver import run_turns

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}
#: Metrics that only a store on files has.
OF_FILES = {
    f.COMMIT_RECORDS,
    f.SYNC_SECONDS,
    f.RECORDS_IN_FLIGHT,
    f.WAL_WRITTEN,
    f.WAL_SIZE,
    f.WAL_FREE,
    f.CHECKPOINT_AGE,
    f.CHECKPOINT_SECONDS,
    f.CHECKPOINT_FAILURES,
    f.UNWRITTEN_BYTES,
    f.LOADED_STREAMS,
    f.CACHED_BYTES,
    f.DISK_FULL,
}


def families_of(snapshot: Snapshot) -> set[Family]:
    return {each.family for each in snapshot.values} | {each.family for each in snapshot.buckets}


def values_of(snapshot: Snapshot, family: Family) -> dict[tuple[str, ...], float]:
    return {each.labels: each.value for each in snapshot.values if each.family is family}


def buckets_of(snapshot: Snapshot, family: Family) -> list[Buckets]:
    return [each for each in snapshot.buckets if each.family is family]


async def used_app(store: StreamStore | FileBackedStreamStore) -> DurableStreamsApp:
    """Returns an application that has answered some requests."""
    app = create_app(store=store, long_poll_timeout=5)
    app.begin()
    await asgi_driver.request(app, "PUT", A, TEXT)
    await asgi_driver.request(app, "POST", A, TEXT, b"abc")
    await asgi_driver.request(app, "GET", A + "?offset=-1")
    return app


@pytest.mark.parametrize("kind", ["memory", "files"])
async def test_snapshot_has_every_metric_of_its_store(tmp_path: Path, kind: str) -> None:
    store = StreamStore() if kind == "memory" else FileBackedStreamStore(tmp_path / "data")
    app = await used_app(store)
    missing = set(FAMILIES) - families_of(app._take_snapshot())
    # The version is added with the text, because finding it means reading a file.
    assert missing == {f.BUILD_INFO} | (OF_FILES if kind == "memory" else set())
    await app.stop()
    store.close()


async def test_responses_are_shown_by_route_and_status() -> None:
    app = await used_app(StreamStore())
    snapshot = app._take_snapshot()
    assert values_of(snapshot, f.REQUESTS) == {
        ("create", "201"): 1,
        ("append", "204"): 1,
        ("read", "200"): 1,
    }
    assert values_of(snapshot, f.RESPONSE_BYTES)["read",] == 3
    assert values_of(snapshot, f.REQUEST_BYTES) == {(): 3}
    seen = {each.labels: sum(each.counts) for each in buckets_of(snapshot, f.REQUEST_SECONDS)}
    assert (seen["append",], seen["read",], seen["head",]) == (1, 1, 0)
    assert ("sse",) not in seen
    await app.stop()


async def test_live_readers_are_shown_by_kind() -> None:
    app = await used_app(StreamStore())
    streams = [start_live_read(app, A, "sse", "now") for _ in range(3)]
    polls = [start_live_read(app, A, "long-poll", "now") for _ in range(2)]
    for stream in streams:
        await stream.until(b"control")
    await run_turns()
    assert values_of(app._take_snapshot(), f.LIVE_READERS) == {("sse",): 3, ("long_poll",): 2}
    for each in (*streams, *polls):
        each.disconnect()
    await asyncio.gather(*(each.task for each in (*streams, *polls)))
    snapshot = app._take_snapshot()
    assert values_of(snapshot, f.LIVE_READERS) == {("sse",): 0, ("long_poll",): 0}
    seen = {each.labels: sum(each.counts) for each in buckets_of(snapshot, f.LIVE_READ_SECONDS)}
    assert seen == {("sse",): 3, ("long_poll",): 0}
    await app.stop()


async def test_store_on_files_is_shown_with_its_commits(tmp_path: Path) -> None:
    store = FileBackedStreamStore(tmp_path / "data")
    app = await used_app(store)
    snapshot = app._take_snapshot()
    (records,) = buckets_of(snapshot, f.COMMIT_RECORDS)
    assert records.total == 2
    (syncs,) = buckets_of(snapshot, f.SYNC_SECONDS)
    assert sum(syncs.counts) == sum(records.counts)
    (size,) = values_of(snapshot, f.WAL_SIZE).values()
    (free,) = values_of(snapshot, f.WAL_FREE).values()
    assert 0 < free < size
    assert values_of(snapshot, f.CHECKPOINT_AGE)[()] >= 0
    assert values_of(snapshot, f.LOADED_STREAMS) == {(): 1}
    assert values_of(snapshot, f.DISK_FULL) == {(): 0}
    assert values_of(snapshot, f.STORE_FAILED) == {(): 0}
    await app.stop()
    store.close()


async def test_failure_of_the_store_is_shown() -> None:
    app = await used_app(StreamStore())
    app.engine._store_failed(OSError("the disk failed"))
    assert values_of(app._take_snapshot(), f.STORE_FAILED) == {(): 1}
    await app.stop()
