"""Many things are done a few in each turn; what waits for another thread is waited for."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from durable_streams_server.errors import BadRequest, StreamDamaged
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.turns import Turns
from durable_streams_server.subscriptions.loading import FEW, in_slices, load


class Line(Turns):
    """A line whose turns are taken by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Callable[[], object]] = []

    def add(self, step: Callable[[], object], *_: Any) -> None:
        self.steps.append(step)

    def turn(self) -> None:
        """Lets the first step run."""
        step = self.steps.pop(0)
        if step() is True:
            self.steps.append(step)


def test_few_are_done_at_once_and_more_in_turns() -> None:
    line = Line()
    done: list[int] = []

    def do(number: int) -> Ticket[None]:
        done.append(number)
        return Ticket.of(None)

    assert in_slices(line, range(FEW - 1), do).done
    assert len(done) == FEW - 1
    done.clear()
    ticket = in_slices(line, range(3 * FEW), do)
    for slices in (1, 2, 3):
        assert (len(done), ticket.done) == (slices * FEW, False)
        line.turn()
    assert ticket.done
    assert line.steps == []
    assert done == list(range(3 * FEW))


def test_nothing_to_do_is_done() -> None:
    assert in_slices(Line(), (), lambda _: Ticket[None]()).done


def test_what_takes_time_is_waited_for() -> None:
    line = Line()
    waits: list[Ticket[None]] = []

    def do(_: int) -> Ticket[None]:
        waits.append(Ticket())
        return waits[-1]

    ticket = in_slices(line, range(3), do)
    for number in range(3):
        assert len(waits) == number + 1
        waits[-1].resolve(None)
        line.turn()
    assert ticket.done


@pytest.mark.parametrize("late", [False, True])
def test_first_failure_ends_it(late: bool) -> None:
    line = Line()
    done: list[int] = []
    held: Ticket[None] = Ticket()

    def do(number: int) -> Ticket[None]:
        done.append(number)
        if number == 1:
            return held if late else Ticket.failed(BadRequest("no"))
        return Ticket.of(None)

    ticket = in_slices(line, range(100), do)
    held.fail(BadRequest("no"))
    with pytest.raises(BadRequest):
        ticket.result()
    assert done == [0, 1]
    assert line.steps == []


async def test_stream_that_cannot_be_read_is_passed_over() -> None:
    class Broken:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def find(self, path: str) -> Ticket[Any]:
            self.asked.append(path)
            later: Ticket[Any] = Ticket()
            asyncio.get_running_loop().call_soon(later.fail, StreamDamaged("damaged"))
            return later if path == "/b" else Ticket.failed(StreamDamaged("damaged"))

    store = Broken()
    ticket = load(store, Turns(), ["/a", "/b", "/c"])  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        while not ticket.done:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert ticket.result() is None
    assert store.asked == ["/a", "/b", "/c"]
