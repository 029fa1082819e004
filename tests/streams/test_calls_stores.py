"""Threads call public stores while applications on event loops start, stop and fail."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.streams.calls import State
from tests.streams.engines import PublicStore
from tests.streams.threads import TIMEOUT, InThread, LoopThread, Pause, wait_until

pytestmark = pytest.mark.usefixtures("frequent_checks")


@pytest.fixture
def store(store: PublicStore) -> PublicStore:
    """Each kind of public store, with one stream."""
    store.create("/a")
    return store


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("change", ["attach", "detach"])
def test_append_during_start_or_stop_of_application_is_durable(
    store: PublicStore,
    loop_thread: LoopThread,
    change: str,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pause = Pause()
    attach = store._calls.attach

    def stepped(function: Callable[[], None], name: str) -> Callable[[], None]:
        def run() -> None:
            if (change, place) == (name, "before"):
                pause()
            function()
            if (change, place) == (name, "after"):
                pause()

        return run

    def attaching(
        of: asyncio.AbstractEventLoop, take: Callable[[], None], back: Callable[[], None]
    ) -> None:
        attach(of, stepped(take, "attach"), stepped(back, "detach"))

    monkeypatch.setattr(store._calls, "attach", attaching)
    app = create_app(store=store)
    starting = loop_thread.start_call(app.engine.start)
    if change == "detach":
        starting.result()
        starting = InThread(
            lambda: asyncio.run_coroutine_threadsafe(app.stop(), loop_thread.loop).result(TIMEOUT)
        )
    pause.wait_until_reached()
    call = InThread(lambda: store.append("/a", b"x"))
    wait_until(lambda: store._calls.waiting == 1)
    pause.release()
    assert not call.result().duplicate
    starting.result()
    if change == "attach":
        asyncio.run_coroutine_threadsafe(app.stop(), loop_thread.loop).result(TIMEOUT)
    assert store.read("/a").data == b"x"


def test_append_after_program_failed_is_durable(store: PublicStore) -> None:
    async def main() -> None:
        create_app(store=store).engine.start()
        await asyncio.to_thread(store.append, "/a", b"x")
        raise ValueError("the program failed")

    with pytest.raises(ValueError, match="the program failed"):
        asyncio.run(main())
    store.append("/a", b"y")
    assert store.read("/a").data == b"xy"


def test_append_after_loop_was_closed_is_durable(
    store: PublicStore, loop_thread: LoopThread
) -> None:
    loop_thread.call(create_app(store=store).engine.start)
    assert not InThread(lambda: store.append("/a", b"x")).result().duplicate
    loop_thread.stop()
    assert not InThread(lambda: store.append("/a", b"y")).result().duplicate
    assert store.read("/a").data == b"xy"


def test_append_in_callback_or_hook_on_loop_is_durable(store: PublicStore) -> None:
    def log(event: object) -> None:
        if getattr(event, "path", "") == "/b":
            store.append("/a", b"hook,")

    async def main() -> None:
        app = create_app(store=store, hooks=[log])
        app.engine.start()
        done = asyncio.Event()

        def callback() -> None:
            store.append("/a", b"callback,")
            store.create("/b")
            done.set()

        asyncio.get_running_loop().call_soon(callback)
        await done.wait()
        await app.stop()

    asyncio.run(main())
    assert store.read("/a").data == b"callback,hook,"


def test_appends_from_threads_succeed_while_loops_attach_and_detach(store: PublicStore) -> None:
    stop = threading.Event()

    def work() -> int:
        count = 0
        while not stop.is_set():
            assert not store.append("/a", b"x").duplicate
            count += 1
        return count

    async def serve() -> None:
        app = create_app(store=store)
        app.engine.start()
        await asyncio.gather(*(asyncio.to_thread(store.read, "/a") for _ in range(5)))
        await app.stop()

    workers = [InThread(work) for _ in range(3)]
    for _ in range(10):
        asyncio.run(serve())
    stop.set()
    assert sum(worker.result() for worker in workers) == len(store.read("/a").data)


def test_closed_store_refuses_every_call(store: PublicStore) -> None:
    store.close()
    for call in (
        lambda: store.append("/a", b"x"),
        lambda: store.read("/a"),
        lambda: store.create("/b"),
        lambda: store.delete("/a"),
        lambda: store.has("/a"),
    ):
        with pytest.raises(RuntimeError, match="the store is closed"):
            call()


@pytest.mark.parametrize("kind", ["memory", "files"])
async def test_applications_on_one_loop_share_store_until_last_one_detaches(
    kind: str, tmp_path: Path
) -> None:
    store = StreamStore() if kind == "memory" else FileBackedStreamStore(tmp_path)
    loop = asyncio.get_running_loop()
    told: list[str] = []
    store.attach(loop, lambda _: told.append("first"))
    store.attach(loop, lambda _: told.append("second"))
    store.create("/a", "text/plain")
    if isinstance(store, FileBackedStreamStore):
        store.commits.fail(OSError("the disk failed"))
        store.attach(loop, lambda _: told.append("third"))
        assert told == ["first", "second", "third"]
        store.detach()
    states = []
    for _ in range(2):
        store.detach()
        states.append(store._calls.state)
    assert states == [State.LOOP, State.FREE]
    store.close()
