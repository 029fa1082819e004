"""Tests that a name server that does not answer does not delay the lookups of other names."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from durable_streams_server.subscriptions.lookups import SystemResolver
from tests.subscriptions.services import run_turns

Found = list[tuple[int, int, int, str, tuple[str, int]]]


class FakeResolver:
    """Replaces `socket.getaddrinfo`. Lookups of names that begin with `dead` wait until the test sets `release`, and then fail.

    Attributes:
        asked: the names that were looked up, in order.
        release: ends the lookups that wait.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = threading.Event()

    def getaddrinfo(self, host: str, port: int, **_: int) -> Found:
        self.asked.append(host)
        if host.startswith("dead"):
            self.release.wait()
            raise socket.gaierror("no such name")
        return [(2, 1, 6, "", (address, port)) for address in ("8.8.8.8", "8.8.4.4", "8.8.8.8")]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeResolver]:
    it = FakeResolver()
    monkeypatch.setattr(socket, "getaddrinfo", it.getaddrinfo)
    yield it
    it.release.set()


def start_lookups(resolver: SystemResolver, *hosts: str) -> list[asyncio.Task[object]]:
    async def look_up(host: str) -> object:
        return await resolver(host, 443)

    return [asyncio.create_task(look_up(host)) for host in hosts]


async def test_lookup_returns_each_address_once(names: FakeResolver) -> None:
    assert await SystemResolver()("hooks.example.com", 443) == ["8.8.8.8", "8.8.4.4"]


async def test_hanging_lookups_do_not_delay_other_names(names: FakeResolver) -> None:
    resolver = SystemResolver()
    dead = start_lookups(resolver, *(f"dead{number}" for number in range(100)))
    await run_turns(1)
    async with asyncio.timeout(5):
        assert await resolver("hooks.example.com", 443)
    names.release.set()
    ended = await asyncio.gather(*dead, return_exceptions=True)
    assert all(isinstance(error, socket.gaierror) for error in ended)


async def test_concurrent_lookups_of_one_name_share_a_thread(names: FakeResolver) -> None:
    resolver = SystemResolver()
    first, second = start_lookups(resolver, "dead", "dead")
    await run_turns(1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    (third,) = start_lookups(resolver, "dead")
    await run_turns(1)
    assert names.asked == ["dead"]
    names.release.set()
    for each in (second, third):
        with pytest.raises(socket.gaierror):
            await each
    await asyncio.gather(*start_lookups(resolver, "dead"), return_exceptions=True)
    assert names.asked == ["dead", "dead"]


async def test_lookup_beyond_the_limit_fails_immediately(names: FakeResolver) -> None:
    resolver = SystemResolver(most=2)
    dead = start_lookups(resolver, "dead1", "dead2")
    await run_turns(1)
    with pytest.raises(OSError, match="too many"):
        await resolver("hooks.example.com", 443)
    names.release.set()
    await asyncio.gather(*dead, return_exceptions=True)
    assert await resolver("hooks.example.com", 443)


async def test_lookup_fails_if_no_thread_can_start(
    names: FakeResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    resolver = SystemResolver(most=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", NoThread)
        for _ in range(2):
            with pytest.raises(OSError, match="thread"):
                await resolver("hooks.example.com", 443)
    assert await resolver("hooks.example.com", 443)


async def test_name_that_idna_forbids_raises_an_error() -> None:
    with pytest.raises((UnicodeError, OSError)):
        await SystemResolver()("xn--999999999.example", 443)


async def test_localhost_resolves_to_loopback() -> None:
    assert set(await SystemResolver()("localhost", 80)) <= {"127.0.0.1", "::1"}


# The lookup sleeps for longer than the test allows, as `getaddrinfo` does when a name server does not answer.
HANGS = """
import asyncio, socket, time
socket.getaddrinfo = lambda *_, **__: time.sleep(600)
from durable_streams_server.subscriptions.lookups import SystemResolver

async def main():
    try:
        async with asyncio.timeout(0.1):
            await SystemResolver()("dead.example.com", 443)
    except TimeoutError:
        print("gave up")

asyncio.run(main())
"""


def test_process_ends_while_a_lookup_hangs() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"gave up\n", b"")
