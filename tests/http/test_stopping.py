"""The signal handlers that notify an application when its host server stops."""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, ModuleType

import pytest

from durable_streams_server.http.stopping import StopSignals
from tests.http.socket_driver import run_turns, until


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Installs the SIGTERM handler of a host, and yields the signal numbers that the handler receives."""
    gc.collect()  # an application of an earlier test would keep its handler installed
    heard: list[int] = []

    def take(number: int, _: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, take)
    yield heard
    assert signal.getsignal(signal.SIGTERM) is take  # the host's handler was restored
    signal.signal(signal.SIGTERM, before)


async def test_signal_notifies_every_application_and_then_host(heard: list[int]) -> None:
    stopped: list[str] = []
    one = StopSignals(lambda: stopped.append("one"))
    two = StopSignals(lambda: stopped.append("two"))
    for each in (one, two, one):
        each.watch()
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    await until(lambda: sorted(stopped) == ["one", "two"])
    one.forget()
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM] * 2
    await until(lambda: stopped.count("two") == 2)
    two.forget()
    assert stopped.count("one") == 1


@pytest.mark.skipif(not hasattr(signal, "SIGQUIT"), reason="there is no SIGQUIT")
@pytest.mark.parametrize("host", ["gunicorn.arbiter", "another"])
async def test_sigquit_notifies_applications_under_gunicorn_only(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "gunicorn.arbiter", raising=False)
    monkeypatch.setitem(sys.modules, host, ModuleType(host))
    stopped: list[str] = []
    shown: list[int] = []
    before = signal.signal(signal.SIGQUIT, lambda number, _: shown.append(number))
    try:
        watching = StopSignals(lambda: stopped.append("told"))
        watching.watch()
        signal.raise_signal(signal.SIGQUIT)
        assert shown == [signal.SIGQUIT]
        await run_turns()
        assert stopped == (["told"] if host == "gunicorn.arbiter" else [])
        watching.forget()
    finally:
        signal.signal(signal.SIGQUIT, before)


async def test_deleted_application_is_not_notified(heard: list[int]) -> None:
    watching = StopSignals(lambda: pytest.fail("told"))
    watching.watch()
    del watching
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    last = StopSignals(lambda: None)
    last.forget()


async def test_default_signal_handler_is_not_replaced() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        watching = StopSignals(lambda: None)
        watching.watch()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        watching.forget()
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_sigint_handler_of_asyncio_is_not_replaced() -> None:
    handler = signal.getsignal(signal.SIGINT)
    watching = StopSignals(lambda: None)
    watching.watch()
    assert signal.getsignal(signal.SIGINT) is handler
    watching.forget()


def test_watch_outside_the_main_thread_installs_no_signal_handler(heard: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def watch() -> None:
        StopSignals(lambda: None).watch()

    thread = threading.Thread(target=lambda: asyncio.run(watch()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
