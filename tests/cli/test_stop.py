"""How `serve` stops under thousands of live reads and steady appends. Live reads end cleanly, and no acknowledged append is lost."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from durable_streams_server.cli.settings.process import DEFAULT_DRAIN
from tests.crowd import Reader, Writer, begin_crowd, stop_crowd
from tests.process import ServerProcess, address_of, launch, launch_with_log, serve

READERS = 2000
INTERVAL = 0.4  # seconds between two appends


def port_of(server: ServerProcess) -> int:
    return int(server.url.rpartition(":")[2])


async def until_not_ready(http: httpx.AsyncClient) -> None:
    """Waits until the signal to stop has reached the server."""
    async with asyncio.timeout(5):
        while (await http.get("/readyz")).status_code == 200:
            pass


async def exit_code(server: ServerProcess) -> int:
    return await asyncio.to_thread(server.process.wait, 20)


@asynccontextmanager
async def loaded(
    *flags: str, count: int = READERS, interval: float = INTERVAL
) -> AsyncIterator[tuple[ServerProcess, Writer, list[Reader]]]:
    """Runs a server under live reads and steady appends. The block must stop it, and then they must all end.

    Args:
        flags: the flags of the server.
        count: the number of live reads.
        interval: seconds between two appends.
    """
    with launch(*flags) as server:
        port, writer = port_of(server), Writer()
        await writer.create(port)
        readers, tasks = await begin_crowd(port, count)
        appending = asyncio.create_task(writer.append_steadily(port, interval))
        await writer.until(4)
        yield server, writer, readers
        await asyncio.wait_for(asyncio.gather(appending, *tasks), 5)


async def check_resumed(directory: Path, readers: list[Reader], writer: Writer) -> None:
    """Starts the server again, appends to the stream, and checks that each reader gets exactly the bytes that it has not received yet."""
    with serve("--data-dir", str(directory)) as server:
        port = port_of(server)
        if writer.is_in_doubt:
            assert await writer.append(port)  # the server recognises it if it has it already
        assert await writer.append(port)
        for begin in range(0, len(readers), 100):
            some = readers[begin : begin + 100]
            await asyncio.gather(*(reader.catch_up(port) for reader in some))
        assert {bytes(reader.text) for reader in readers} == {writer.text}
        writer.close()


def per_second(readers: list[Reader], began: float) -> list[int]:
    """Returns the numbers of live reads that ended in each second of a drain, the largest number first."""
    counts = Counter(int((reader.ended_at or 0.0) - began) for reader in readers)
    return sorted(counts.values(), reverse=True)


@pytest.mark.parametrize("lane", ["native", "asgi"])
async def test_drain_spreads_clean_ends_evenly_and_answers_appends_meanwhile(
    lane: str, tmp_path: Path
) -> None:
    flags = ("--data-dir", str(tmp_path), "--http", lane, "--drain", "10")
    count = READERS if lane == "native" else READERS // 4
    async with loaded(*flags, count=count) as (server, writer, readers):
        before, began = writer.acknowledged, time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert await exit_code(server) == 0
        took = time.monotonic() - began
    assert 10 <= took < 13
    assert writer.acknowledged - before > 5
    assert [reader.problem for reader in readers if reader.problem] == []
    ends = per_second(readers, began)
    assert ends[0] <= len(readers) / 5, ends
    await check_resumed(tmp_path, readers, writer)


@pytest.mark.parametrize("lane", ["native", "asgi"])
async def test_stop_without_drain_ends_thousands_of_live_reads_cleanly_within_three_seconds(
    lane: str, tmp_path: Path
) -> None:
    flags = ("--data-dir", str(tmp_path), "--http", lane, "--drain", "0")
    async with loaded(*flags) as (server, writer, readers):
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert await exit_code(server) == 0
        took = time.monotonic() - began
    assert took < 3
    assert [reader.problem for reader in readers if reader.problem] == []
    await check_resumed(tmp_path, readers, writer)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_the_server_at_once_and_loses_nothing_acknowledged(
    second: signal.Signals, tmp_path: Path
) -> None:
    flags = ("--data-dir", str(tmp_path), "--drain", "60")
    async with loaded(*flags, count=200, interval=0.001) as (server, writer, readers):
        async with httpx.AsyncClient(base_url=server.url) as http:
            server.process.send_signal(signal.SIGTERM)
            await until_not_ready(http)
        await asyncio.sleep(0.1)  # the same signal counts once within a moment
        assert server.process.poll() is None
        began = time.monotonic()
        server.process.send_signal(second)
        assert await exit_code(server) == 128 + second
        assert time.monotonic() - began < 10  # the drain would take 60
    assert writer.acknowledged > 5
    await check_resumed(tmp_path, readers, writer)


async def test_draining_server_answers_new_clients_until_the_end() -> None:
    with launch("--memory", "--drain", "3") as server:
        port, writer = port_of(server), Writer()
        await writer.create(port)
        readers, tasks = await begin_crowd(port, 10)
        began = time.monotonic()
        async with httpx.AsyncClient(base_url=server.url) as http:
            assert (await http.get("/readyz")).status_code == 200
            server.process.send_signal(signal.SIGTERM)
            await until_not_ready(http)
            assert (await http.get("/healthz")).status_code == 200
        assert await writer.append(port)
        later, their_tasks = await begin_crowd(port, 2)  # live reads that begin during the drain
        await asyncio.wait_for(asyncio.gather(*tasks, *their_tasks), 10)
        assert await exit_code(server) == 0
        assert 3 <= time.monotonic() - began < 8
        writer.close()
        await stop_crowd([*tasks, *their_tasks])
    assert [reader.problem for reader in [*readers, *later] if reader.problem] == []
    assert {bytes(reader.text) for reader in later} == {b"0,1,"}


def check_stop_at_once(server: ServerProcess, number: signal.Signals) -> None:
    """Stops a server without live reads by a signal, and checks that it does not drain."""
    assert httpx.get(server.url + "/v1/stream/a").status_code == 404
    began = time.monotonic()
    server.process.send_signal(number)
    assert server.process.wait(15) == 0
    assert time.monotonic() - began < DEFAULT_DRAIN - 1


def test_stop_by_ctrl_c_has_no_drain() -> None:
    with launch("--memory", "--drain", "20") as server:
        check_stop_at_once(server, signal.SIGINT)


def test_server_with_streams_in_memory_does_not_drain_by_default() -> None:
    """Uses `launch_with_log`, because `launch` adds a flag that prevents a drain."""
    with launch_with_log("--memory", "--port", "0") as process:
        check_stop_at_once(ServerProcess(process, address_of(process)), signal.SIGTERM)
