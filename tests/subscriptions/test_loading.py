"""Tests that `in_slices` and `load` work in slices, and wait for items that take time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from durable_streams_server.errors import BadRequest, StreamDamaged
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.turns import Turns
from durable_streams_server.subscriptions.loading import FEW, in_slices, load
from tests.subscriptions.services import wait_until


class ManualTurns(Turns):
    """A queue of steps that the test runs one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Callable[[], object]] = []

    def add(self, step: Callable[[], object], *_: Any) -> None:
        self.steps.append(step)

    def run_step(self) -> None:
        """Runs the first step, and queues it again if it returns True."""
        step = self.steps.pop(0)
        if step() is True:
            self.steps.append(step)


def test_few_items_are_loaded_immediately_and_many_in_steps() -> None:
    turns = ManualTurns()
    done: list[int] = []

    def do(number: int) -> Ticket[None]:
        done.append(number)
        return Ticket.of(None)

    assert in_slices(turns, range(FEW - 1), do).done
    assert len(done) == FEW - 1
    done.clear()
    ticket = in_slices(turns, range(3 * FEW), do)
    for slices in (1, 2, 3):
        assert (len(done), ticket.done) == (slices * FEW, False)
        turns.run_step()
    assert ticket.done
    assert turns.steps == []
    assert done == list(range(3 * FEW))


def test_in_slices_returns_done_ticket_for_empty_input() -> None:
    assert in_slices(ManualTurns(), (), lambda _: Ticket[None]()).done


def test_next_item_waits_for_the_ticket_of_the_previous_one() -> None:
    turns = ManualTurns()
    waits: list[Ticket[None]] = []

    def do(_: int) -> Ticket[None]:
        waits.append(Ticket())
        return waits[-1]

    ticket = in_slices(turns, range(3), do)
    for number in range(3):
        assert len(waits) == number + 1
        waits[-1].resolve(None)
        turns.run_step()
    assert ticket.done


@pytest.mark.parametrize("late", [False, True])
def test_first_failure_fails_the_ticket_and_skips_the_rest(late: bool) -> None:
    turns = ManualTurns()
    done: list[int] = []
    held: Ticket[None] = Ticket()

    def do(number: int) -> Ticket[None]:
        done.append(number)
        if number == 1:
            return held if late else Ticket.failed(BadRequest("no"))
        return Ticket.of(None)

    ticket = in_slices(turns, range(100), do)
    held.fail(BadRequest("no"))
    with pytest.raises(BadRequest):
        ticket.result()
    assert done == [0, 1]
    assert turns.steps == []


async def test_load_skips_streams_that_cannot_be_read() -> None:
    class DamagedStore(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[str] = []

        def find(self, path: str) -> Ticket[Any]:
            self.asked.append(path)
            later: Ticket[Any] = Ticket()
            asyncio.get_running_loop().call_soon(later.fail, StreamDamaged("damaged"))
            return later if path == "/b" else Ticket.failed(StreamDamaged("damaged"))

    store = DamagedStore()
    ticket = load(store, Turns(), ["/a", "/b", "/c"])
    await wait_until(lambda: ticket.done)
    assert ticket.result() is None
    assert store.asked == ["/a", "/b", "/c"]
