"""Calls of a store's plain functions end in every interleaving with loops that come, stop, fail and are closed."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.storage.ticket import Abandoned, Ticket
from durable_streams_server.streams import calls
from durable_streams_server.streams.calls import Calls, State

T = TypeVar("T")
Kept = StreamStore | FileBackedStreamStore
_PATIENCE = 20  # seconds before a test gives up on what must happen


def until(condition: Callable[[], bool]) -> None:
    """Returns once another thread has made a condition true."""
    end = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.0005)


class InThread:
    """Runs a function in a thread of its own."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self.ident: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.ident = threading.get_ident()
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """Waits for the end; returns the result, or raises the error."""
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive(), "it never ends"
        if self._error is not None:
            raise self._error
        return self._value


class Pause:
    """A place at which a thread stops until the test lets it go."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._go = threading.Event()

    def __call__(self) -> None:
        self._reached.set()
        assert self._go.wait(_PATIENCE)

    def reached(self) -> None:
        """Waits until a thread stands at the place."""
        assert self._reached.wait(_PATIENCE)

    def go(self) -> None:
        self._go.set()


class LoopThread:
    """An event loop in a thread of its own, which runs until `stop`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = InThread(self.loop.run_forever)
        until(self.loop.is_running)

    def call(self, function: Callable[[], T]) -> T:
        """Calls a function on the loop, and waits for it."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(_PATIENCE)

    def begin(self, function: Callable[[], Any]) -> InThread:
        """Calls a function on the loop; the result waits for it."""
        return InThread(lambda: self.call(function))

    @property
    def ident(self) -> int:
        return self.call(threading.get_ident)

    def stop(self, *, close: bool = True) -> None:
        """Stops the loop without a word to anybody."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join()
        if close:
            self.loop.close()

    def join(self) -> None:
        """Waits until the loop has stopped."""
        self._thread.result()


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    if made.loop.is_running():
        made.stop()
    made.loop.close()


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_LOOK_EVERY", 0.001)


def make(failure: BaseException | None = None) -> Calls:
    """Returns calls of a store whose tickets are resolved when somebody settles them."""

    def settle(ticket: Ticket[Any]) -> None:
        if failure is None:
            ticket.resolve(threading.get_ident())

    return Calls(settle, lambda: failure)


def nothing() -> None:
    return


def whose(made: Calls) -> int:
    """Calls; returns the thread that the call ran in."""
    return made.run(lambda: Ticket.of(threading.get_ident()))


def stopped_at(pause: Pause) -> Ticket[None]:
    """A call that stops at a place on its way."""
    pause()
    return Ticket.of(None)


# -- one state after the other ----------------------------------------------


def test_call_without_a_loop_runs_in_its_own_thread() -> None:
    made = make()
    thread = InThread(lambda: whose(made))
    assert thread.result() == thread.ident


def test_call_within_a_call_goes_straight_in() -> None:
    made = make()
    assert made.run(lambda: Ticket.of(whose(made))) == threading.get_ident()


def test_two_threads_take_turns() -> None:
    made, pause = make(), Pause()
    first = InThread(lambda: made.run(lambda: stopped_at(pause)))
    pause.reached()
    second = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)
    pause.go()
    first.result()
    assert second.result() == second.ident


def test_attach_waits_for_the_call_that_runs_and_later_calls_run_on_the_loop(
    loop: LoopThread,
) -> None:
    made, pause = make(), Pause()
    first = InThread(lambda: made.run(lambda: stopped_at(pause)))
    pause.reached()
    taken = threading.Event()
    attaching = loop.begin(lambda: made.attach(loop.loop, taken.set, nothing))
    until(lambda: made._wanted == 1)
    second = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)
    assert not taken.is_set()
    pause.go()
    first.result()
    attaching.result()
    assert second.result() == loop.ident
    loop.call(made.detach)


def test_call_during_attach_runs_on_the_loop(loop: LoopThread) -> None:
    made, pause = make(), Pause()
    attaching = loop.begin(lambda: made.attach(loop.loop, pause, nothing))
    pause.reached()
    call = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)
    pause.go()
    attaching.result()
    assert call.result() == loop.ident
    loop.call(made.detach)


def test_call_during_an_attach_that_fails_runs_in_its_own_thread(loop: LoopThread) -> None:
    made, pause = make(), Pause()

    def fail() -> None:
        pause()
        raise OSError("no disk")

    attaching = loop.begin(lambda: made.attach(loop.loop, fail, nothing))
    pause.reached()
    call = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)
    pause.go()
    with pytest.raises(OSError, match="no disk"):
        attaching.result()
    assert call.result() == call.ident


def test_call_that_the_loop_has_not_begun_at_detach_runs_in_its_own_thread(
    loop: LoopThread,
) -> None:
    made, pause = make(), Pause()
    loop.call(lambda: made.attach(loop.loop, nothing, nothing))

    def stop() -> None:
        pause()
        made.detach()

    stopping = loop.begin(stop)
    pause.reached()
    call = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)  # handed to the loop, which is busy
    pause.go()
    stopping.result()
    assert call.result() == call.ident


def test_call_is_handed_over_or_run_when_detach_comes_between(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, pause = make(), Pause()
    loop.call(lambda: made.attach(loop.loop, nothing, nothing))
    hand_over = loop.loop.call_soon_threadsafe

    def handing_over(callback: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if callback == made._take:
            pause()
        return hand_over(callback, *arguments, **options)

    monkeypatch.setattr(loop.loop, "call_soon_threadsafe", handing_over)
    call = InThread(lambda: whose(made))
    pause.reached()  # the owner was looked up, and the loop was not called yet
    stopping = loop.begin(made.detach)
    pause.go()
    assert call.result() in (call.ident, loop.ident)
    stopping.result()
    assert made.state is State.FREE


def test_call_during_detach_runs_in_its_own_thread(loop: LoopThread) -> None:
    made, pause = make(), Pause()
    loop.call(lambda: made.attach(loop.loop, nothing, pause))
    stopping = loop.begin(made.detach)
    pause.reached()
    call = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)
    pause.go()
    stopping.result()
    assert call.result() == call.ident


def test_call_that_the_loop_has_begun_is_finished_by_detach(loop: LoopThread) -> None:
    made, ticket = make(), Ticket[int]()
    loop.call(lambda: made.attach(loop.loop, nothing, nothing))
    call = InThread(lambda: made.run(lambda: ticket))
    until(lambda: len(made._begun) == 1)
    loop.call(made.detach)
    assert call.result() == loop.ident


def test_call_that_a_failed_store_cannot_finish_raises_what_stopped_the_store(
    loop: LoopThread,
) -> None:
    made, ticket = make(OSError("no disk")), Ticket[int]()
    loop.call(lambda: made.attach(loop.loop, nothing, nothing))
    call = InThread(lambda: made.run(lambda: ticket))
    until(lambda: len(made._begun) == 1)
    loop.call(made.detach)
    with pytest.raises(OSError, match="no disk"):
        call.result()
    with pytest.raises(OSError, match="no disk"):
        made.run(lambda: ticket)
    with pytest.raises(OSError, match="gone"):
        made.run(lambda: Ticket.failed(Abandoned(OSError("gone"))))


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_call_whose_function_raises_on_the_loop_hears_of_it(
    loop: LoopThread, kind: type[BaseException]
) -> None:
    made = make()

    def fail() -> Ticket[int]:
        raise kind("wrong")

    loop.call(lambda: made.attach(loop.loop, nothing, nothing))
    with pytest.raises(kind, match="wrong"):
        InThread(lambda: made.run(fail)).result()


def test_call_from_a_callback_on_the_loop_goes_straight_in(loop: LoopThread) -> None:
    made = make()
    loop.call(lambda: made.attach(loop.loop, nothing, nothing))
    assert loop.call(lambda: whose(made)) == loop.ident
    loop.call(made.detach)


def test_call_after_detach_and_after_another_loop_has_come_and_gone(loop: LoopThread) -> None:
    made = make()
    for each in (loop, LoopThread()):
        each.call(lambda each=each: made.attach(each.loop, nothing, nothing))  # type: ignore[misc]
        assert InThread(lambda: whose(made)).result() == each.ident
        each.call(made.detach)
        each.call(made.detach)
        call = InThread(lambda: whose(made))
        assert call.result() == call.ident
        each.stop()


def test_call_that_waits_for_one_loop_runs_on_the_next(loop: LoopThread) -> None:
    made, pause, second = make(), Pause(), LoopThread()
    loop.call(lambda: made.attach(loop.loop, nothing, pause))
    stopping = loop.begin(made.detach)
    pause.reached()
    attaching = second.begin(lambda: made.attach(second.loop, nothing, nothing))
    until(lambda: made._wanted == 1)
    call = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)
    pause.go()
    stopping.result()
    attaching.result()
    assert call.result() == second.ident
    second.call(made.detach)
    second.stop()


def test_second_loop_is_refused_while_the_first_has_the_store(loop: LoopThread) -> None:
    made, second = make(), LoopThread()
    loop.call(lambda: made.attach(loop.loop, nothing, nothing))
    for other in (second, loop):
        with pytest.raises(RuntimeError, match="an event loop has it"):
            other.call(lambda: made.attach(second.loop, nothing, nothing))
    with pytest.raises(RuntimeError, match="another thread"):
        second.call(made.detach)
    with pytest.raises(RuntimeError, match="cannot be closed"):
        made.close(nothing)
    assert InThread(lambda: whose(made)).result() == loop.ident
    loop.call(made.detach)
    second.stop()


def test_change_in_the_middle_of_a_call_is_refused() -> None:
    made = make()
    for change in (lambda: made.close(nothing), lambda: made.attach(None, nothing, nothing)):  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="in the middle of a call"):
            made.run(lambda change=change: Ticket.of(change()))  # type: ignore[misc]
    assert whose(made) == threading.get_ident()


def test_calls_during_and_after_close_are_refused(loop: LoopThread) -> None:
    made, pause = make(), Pause()
    closing = InThread(lambda: made.close(pause))
    pause.reached()
    call = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)
    pause.go()
    closing.result()
    for refused in (call.result, lambda: whose(made)):
        with pytest.raises(RuntimeError, match="the store is closed"):
            refused()
    made.close(nothing)
    with pytest.raises(RuntimeError, match="the store is closed"):
        made.attach(loop.loop, nothing, nothing)


def test_close_on_the_loop_takes_the_store_back_first(loop: LoopThread) -> None:
    made, order = make(), list[str]()
    loop.call(lambda: made.attach(loop.loop, nothing, lambda: order.append("back")))
    loop.call(lambda: made.close(lambda: order.append("end")))
    assert order == ["back", "end"]


def test_thread_that_is_interrupted_while_it_waits_leaves_nothing(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, pause = make(), Pause()
    first = InThread(lambda: made.run(lambda: stopped_at(pause)))
    pause.reached()
    with monkeypatch.context() as patch:
        patch.setattr(made, "_look", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            whose(made)
    assert made.waiting == 0
    pause.go()
    first.result()
    assert whose(made) == threading.get_ident()


def _interrupt(_: object) -> bool:
    raise KeyboardInterrupt


# -- loops that end without a word ------------------------------------------


def test_call_that_waits_for_a_loop_that_is_closed_takes_the_store_back(loop: LoopThread) -> None:
    made, pause, taken_back = make(), Pause(), threading.Event()
    loop.call(lambda: made.attach(loop.loop, nothing, taken_back.set))

    def stop() -> None:
        pause()
        loop.loop.stop()

    loop.loop.call_soon_threadsafe(stop)
    pause.reached()
    call = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)  # it is handed over too late for the loop's last turn
    pause.go()
    loop.join()
    loop.loop.close()
    assert call.result() == call.ident
    assert taken_back.is_set()


def test_call_after_the_loop_was_closed_takes_the_store_back(loop: LoopThread) -> None:
    made, taken_back = make(), threading.Event()
    loop.call(lambda: made.attach(loop.loop, nothing, taken_back.set))
    loop.stop()
    call = InThread(lambda: whose(made))
    assert call.result() == call.ident
    assert taken_back.is_set()


def test_call_that_a_loop_had_begun_before_it_was_closed_ends_with_an_error(
    loop: LoopThread,
) -> None:
    made, ticket = make(), Ticket[int]()
    loop.call(lambda: made.attach(loop.loop, nothing, nothing))
    call = InThread(lambda: made.run(lambda: ticket))
    until(lambda: len(made._begun) == 1)
    loop.stop()
    with pytest.raises(RuntimeError, match="nobody knows what became of this call"):
        call.result()
    assert whose(made) == threading.get_ident()


def test_close_after_the_loop_was_closed_takes_the_store_back(loop: LoopThread) -> None:
    made, order = make(), list[str]()
    loop.call(lambda: made.attach(loop.loop, nothing, lambda: order.append("back")))
    loop.stop()
    made.close(lambda: order.append("end"))
    assert order == ["back", "end"]


def test_call_beside_a_loop_that_stopped_is_refused(loop: LoopThread) -> None:
    made = make()
    loop.call(lambda: made.attach(loop.loop, nothing, nothing))
    loop.stop(close=False)
    with pytest.raises(RuntimeError, match="the event loop that has the store has stopped"):
        whose(made)
    assert made.waiting == 0
    loop.loop.close()


def test_call_in_the_thread_of_a_loop_that_stands_still_goes_straight_in() -> None:
    made, loop = make(), asyncio.new_event_loop()

    async def attach() -> None:
        made.attach(loop, nothing, nothing)

    loop.run_until_complete(attach())
    assert whose(made) == threading.get_ident()
    made.close(nothing)
    loop.close()


def test_loop_that_ends_with_an_error_gives_the_store_back() -> None:
    made, pause, order = make(), Pause(), list[str]()

    async def main() -> None:
        for _ in range(2):  # applications that share the store
            made.attach(asyncio.get_running_loop(), nothing, lambda: order.append("back"))
        pause()
        raise ValueError("the program failed")

    running = InThread(lambda: asyncio.run(main()))
    pause.reached()
    call = InThread(lambda: whose(made))
    until(lambda: made.waiting == 1)
    pause.go()
    with pytest.raises(ValueError, match="the program failed"):
        running.result()
    assert call.result() in (call.ident, running.ident)
    assert (order, made.state) == (["back"], State.FREE)


# -- whole stores -----------------------------------------------------------


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    made: Kept = StreamStore()
    if request.param == "files":
        made = FileBackedStreamStore(tmp_path, segment_size=1 << 20)
    made.create("/a")
    yield made
    made.close()


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("change", ["attach", "detach"])
def test_append_beside_a_start_or_a_stop_is_durable(
    store: Kept, loop: LoopThread, change: str, place: str, monkeypatch: pytest.MonkeyPatch
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
    starting = loop.begin(app.engine.start)
    if change == "detach":
        starting.result()
        starting = InThread(
            lambda: asyncio.run_coroutine_threadsafe(app.stop(), loop.loop).result(_PATIENCE)
        )
    pause.reached()
    call = InThread(lambda: store.append("/a", b"x"))
    until(lambda: store._calls.waiting == 1)
    pause.go()
    assert not call.result().duplicate
    starting.result()
    if change == "attach":
        asyncio.run_coroutine_threadsafe(app.stop(), loop.loop).result(_PATIENCE)
    assert store.read("/a").data == b"x"


def test_append_after_a_program_that_failed_is_durable(store: Kept) -> None:
    async def main() -> None:
        create_app(store=store).engine.start()
        await asyncio.to_thread(store.append, "/a", b"x")
        raise ValueError("the program failed")

    with pytest.raises(ValueError, match="the program failed"):
        asyncio.run(main())
    store.append("/a", b"y")
    assert store.read("/a").data == b"xy"


def test_append_after_a_loop_that_was_closed_is_durable(store: Kept, loop: LoopThread) -> None:
    loop.call(create_app(store=store).engine.start)
    assert not InThread(lambda: store.append("/a", b"x")).result().duplicate
    loop.stop()
    assert not InThread(lambda: store.append("/a", b"y")).result().duplicate
    assert store.read("/a").data == b"xy"


def test_append_in_a_callback_and_in_a_hook_on_the_loop_is_durable(store: Kept) -> None:
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


def test_appends_of_threads_end_while_loops_come_and_go(store: Kept) -> None:
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


def test_closed_store_refuses_every_call(store: Kept) -> None:
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
async def test_applications_of_one_loop_share_a_store_until_the_last_one_stops(
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
