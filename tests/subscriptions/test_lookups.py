"""Names are looked up on threads of their own, so that a name server that does not answer delays no other name."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from durable_streams_server.subscriptions.lookups import SystemResolver

Found = list[tuple[int, int, int, str, tuple[str, int]]]


class Names:
    """Stands in for the machine's resolver.

    Attributes:
        asked: the names, in order.
        release: lets the lookups of names that begin with `dead` fail.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = threading.Event()

    def getaddrinfo(self, host: str, port: int, type: int = 0) -> Found:  # noqa: A002
        self.asked.append(host)
        if host.startswith("dead"):
            self.release.wait()
            raise socket.gaierror("no such name")
        return [(2, 1, 6, "", (address, port)) for address in ("8.8.8.8", "8.8.4.4", "8.8.8.8")]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    it = Names()
    monkeypatch.setattr(socket, "getaddrinfo", it.getaddrinfo)
    yield it
    it.release.set()


def lookups(resolver: SystemResolver, *hosts: str) -> list[asyncio.Task[object]]:
    async def look_up(host: str) -> object:
        return await resolver(host, 443)

    return [asyncio.create_task(look_up(host)) for host in hosts]


async def test_addresses_are_returned_once_each(names: Names) -> None:
    assert await SystemResolver()("hooks.example.com", 443) == ["8.8.8.8", "8.8.4.4"]


async def test_names_that_hang_delay_no_other_name(names: Names) -> None:
    resolver = SystemResolver()
    dead = lookups(resolver, *(f"dead{number}" for number in range(100)))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await resolver("hooks.example.com", 443)
    names.release.set()
    ended = await asyncio.gather(*dead, return_exceptions=True)
    assert all(isinstance(error, socket.gaierror) for error in ended)


async def test_lookups_of_one_name_share_one_thread(names: Names) -> None:
    resolver = SystemResolver()
    first, second = lookups(resolver, "dead", "dead")
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    (third,) = lookups(resolver, "dead")
    await asyncio.sleep(0)
    assert names.asked == ["dead"]
    names.release.set()
    for each in (second, third):
        with pytest.raises(socket.gaierror):
            await each
    await asyncio.gather(*lookups(resolver, "dead"), return_exceptions=True)
    assert names.asked == ["dead", "dead"]


async def test_lookups_past_the_limit_fail_at_once(names: Names) -> None:
    resolver = SystemResolver(most=2)
    dead = lookups(resolver, "dead1", "dead2")
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="too many"):
        await resolver("hooks.example.com", 443)
    names.release.set()
    await asyncio.gather(*dead, return_exceptions=True)
    assert await resolver("hooks.example.com", 443)


async def test_machine_without_room_for_a_thread_is_a_failure(
    names: Names, monkeypatch: pytest.MonkeyPatch
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


async def test_name_that_idna_forbids_raises() -> None:
    with pytest.raises((UnicodeError, OSError)):
        await SystemResolver()("xn--999999999.example", 443)


async def test_localhost_resolves_to_loopback() -> None:
    assert set(await SystemResolver()("localhost", 80)) <= {"127.0.0.1", "::1"}


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


def test_lookup_that_hangs_does_not_keep_the_process_from_ending() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"gave up\n", b"")
