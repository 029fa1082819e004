"""Tests that this version opens data directories of format 1, and serves exactly what the old version served."""

import asyncio
import contextlib
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from durable_streams_server import DurableStreamTestServer, FileBackedStreamStore
from durable_streams_server.protocol.decisions.quota import Usage
from durable_streams_server.storage.files.offline.directory_check import DirectoryCheck
from tests.compatibility.make_directory import PRODUCER, ROOT, SEGMENT, observed

HERE = Path(__file__).parent


def unpack(archive: str, folder: Path) -> Path:
    """Unpacks an archive, and returns the data directory in it."""
    with tarfile.open(HERE / f"{archive}.tar.gz") as packed:
        packed.extractall(folder, filter="data")
    return folder / "data"


@contextlib.asynccontextmanager
async def serving(data: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Serves a data directory, and yields a client of the server."""
    store = FileBackedStreamStore(data, segment_size=SEGMENT)
    try:
        async with (
            DurableStreamTestServer(store=store) as server,
            httpx.AsyncClient(base_url=server.base_url) as http,
        ):
            yield http
    finally:
        await asyncio.to_thread(store.close)


def expected() -> dict[str, Any]:
    """Returns what the old version served."""
    seen: dict[str, Any] = json.loads((HERE / "format-1.json").read_text())
    return seen


async def test_streams_and_subscriptions_of_format_1_are_unchanged_even_after_restart(
    tmp_path: Path,
) -> None:
    data = unpack("format-1", tmp_path)
    for _ in range(2):
        async with serving(data) as http:
            assert await observed(http) == expected()


async def test_producers_and_stream_seq_of_format_1_are_still_enforced(tmp_path: Path) -> None:
    json_type, text = {"content-type": "application/json"}, {"content-type": "text/plain"}
    async with serving(unpack("format-1", tmp_path)) as http:
        before = (await http.head(f"{ROOT}/json")).headers["stream-next-offset"]
        duplicate = PRODUCER | {"producer-seq": "5"} | json_type
        repeated = await http.post(f"{ROOT}/json", headers=duplicate, content=b'{"seq":5}')
        assert (repeated.status_code, repeated.headers["stream-next-offset"]) == (204, before)
        following = PRODUCER | {"producer-seq": "6"} | json_type
        assert (await http.post(f"{ROOT}/json", headers=following, content=b"6")).status_code == 200
        regressed = await http.post(
            f"{ROOT}/text", headers=text | {"stream-seq": "0007"}, content=b"x"
        )
        assert regressed.status_code == 409


async def test_streams_of_format_1_are_not_public(tmp_path: Path) -> None:
    data = unpack("format-1", tmp_path)
    async with serving(data) as http:
        for path, known in expected()["streams"].items():
            head = await http.head(ROOT + path)
            assert head.status_code == known["status"]
            assert "stream-public" not in head.headers
    async with serving(
        data
    ) as http:  # now a checkpoint has written the states of the log's records
        assert "stream-public" not in (await http.head(f"{ROOT}/again")).headers


def test_subscriptions_of_format_1_have_no_owner(tmp_path: Path) -> None:
    data = unpack("format-1", tmp_path)
    for _ in range(2):
        with FileBackedStreamStore(data, segment_size=SEGMENT) as store:
            assert len(store.subscriptions) > 0
            assert [each.owner for each in store.subscriptions if each.owner is not None] == []
            assert store.subscriptions.owners.counts == {}


def test_usage_of_format_1_is_the_sum_over_its_streams(tmp_path: Path) -> None:
    data = unpack("format-1", tmp_path)
    for _ in range(2):
        with FileBackedStreamStore(data, segment_size=SEGMENT) as store:
            store.run_checkpoint()
            sizes = [entry.size for _, entry in store._opened_catalog.paths()]
            assert store.usage == Usage(len(sizes), sum(sizes))
            assert store.usage.streams > 100
    assert list(DirectoryCheck(str(data)).run()) == []


async def test_streams_and_forks_of_format_1_accept_appends(
    tmp_path: Path,
) -> None:
    data = unpack("format-1", tmp_path)
    text = {"content-type": "text/plain"}
    async with serving(data) as http:
        for path in ("/fork/0", "/fork/70", "/again", "/kept"):
            appended = await http.post(ROOT + path, headers=text, content=b"more")
            assert appended.status_code == 204
    async with serving(data) as http:
        for path, known in expected()["streams"].items():
            answer = await http.get(ROOT + path)
            assert answer.status_code == known["status"]
            grown = path in ("/fork/0", "/fork/70", "/again", "/kept")
            if known["size"] is not None:
                assert len(answer.content) == known["size"] + (4 if grown else 0)


async def test_directory_with_a_stream_expired_in_1960_survives_restarts(
    tmp_path: Path,
) -> None:
    data = unpack("format-1-early-deadline", tmp_path)
    text = {"content-type": "text/plain"}
    held = "lives on"
    for life in range(4):
        async with serving(data) as http:
            assert (await http.get(f"{ROOT}/other")).text == held
            assert (await http.get(f"{ROOT}/1960")).status_code == 404
            late = await http.get(f"{ROOT}/10000")
            assert (late.status_code, late.text) == (200, "late")
            appended = await http.post(f"{ROOT}/other", headers=text, content=b"%d" % life)
            assert appended.status_code == 204
            held += str(life)
        with FileBackedStreamStore(data, segment_size=SEGMENT) as store:
            store.run_checkpoint()
            assert store.failure is None
            assert store.find(f"{ROOT}/1960").result() is None
        assert list(DirectoryCheck(str(data)).run()) == []


async def test_checkpoint_succeeds_with_a_stream_that_expired_in_1960(
    tmp_path: Path,
) -> None:
    data = unpack("format-1-early-deadline", tmp_path)
    assert list(DirectoryCheck(str(data)).run()) == []
    store = FileBackedStreamStore(data, segment_size=SEGMENT)
    store.run_checkpoint()  # while the expired stream is still there
    assert store.failure is None
    store.close()
    assert list(DirectoryCheck(str(data)).run()) == []
    async with serving(data) as http:
        assert (await http.get(f"{ROOT}/other")).text == "lives on"
        created = await http.put(f"{ROOT}/1960", headers={"content-type": "text/plain"})
        assert created.status_code == 201
