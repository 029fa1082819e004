"""Large pages that clients are reading, and which of these clients are cut while other reads wait for memory."""

import pytest

from durable_streams_server.http.limits import outgoing as module
from durable_streams_server.http.limits.outgoing import GRACE, Outgoing
from durable_streams_server.streams.large import Run, SendBudget
from durable_streams_server.streams.turns import Turns
from tests.http.socket_driver import run_turns, until


class Client:
    """A client whose progress the test sets."""

    def __init__(self) -> None:
        self.taken = 0
        self.was_cut = False

    def cut(self) -> None:
        self.was_cut = True


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def budget() -> SendBudget:
    return SendBudget(300)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outgoing(budget: SendBudget, clock: Clock) -> Outgoing:
    return Outgoing(budget, Turns(), clock)


def crowd(outgoing: Outgoing, budget: SendBudget, count: int, size: int = 100) -> list[Client]:
    """Returns clients that are reading one page each."""
    clients = [Client() for _ in range(count)]
    for client in clients:
        send(outgoing, budget, client, size)
    return clients


async def cut_slowest(outgoing: Outgoing) -> None:
    """Calls `cut_slowest` and waits until its steps have run."""
    outgoing.cut_slowest()
    await until(lambda: not len(outgoing._turns))


def send(outgoing: Outgoing, budget: SendBudget, client: Client, size: int = 100) -> None:
    """Gives a client a new page of `size` bytes to read."""
    budget.add(size)
    outgoing.hold(client, Run(budget, b"x" * size))


async def test_slowest_clients_are_cut_until_a_waiting_read_fits_the_budget(
    outgoing: Outgoing, budget: SendBudget, clock: Clock
) -> None:
    clients = crowd(outgoing, budget, 3)
    clients[0].taken, clients[1].taken, clients[2].taken = 50, 0, 20
    waiting = budget.take(150)
    clock.now = GRACE
    await cut_slowest(outgoing)
    assert [client.was_cut for client in clients] == [False, True, True]
    await until(lambda: waiting.done)
    assert budget.held == 250
    assert len(outgoing) == 1


async def test_enough_clients_are_cut_for_all_waiting_reads(
    outgoing: Outgoing, budget: SendBudget, clock: Clock
) -> None:
    clients = crowd(outgoing, budget, 3)
    waiting = [budget.take(100) for _ in range(2)]
    clock.now = GRACE
    await cut_slowest(outgoing)
    assert [client.was_cut for client in clients] == [True, True, False]
    await until(lambda: all(ticket.done for ticket in waiting))


async def test_only_a_few_clients_are_cut_per_event_loop_turn(
    budget: SendBudget, clock: Clock
) -> None:
    turns = Turns()
    outgoing = Outgoing(budget, turns, clock)
    clients = crowd(outgoing, budget, 100, 3)
    waiting = budget.take(300)
    clock.now = GRACE
    outgoing.cut_slowest()
    await run_turns(1)
    assert 0 < sum(client.was_cut for client in clients) < 10
    await until(lambda: waiting.done)
    assert all(client.was_cut for client in clients)


async def test_client_that_just_finished_its_page_is_not_cut(
    outgoing: Outgoing, budget: SendBudget, clock: Clock
) -> None:
    clients = crowd(outgoing, budget, 3)
    waiting = budget.take(200)
    clock.now = GRACE
    outgoing.cut_slowest()
    outgoing.release(clients[0])
    send(outgoing, budget, clients[0])  # its next page
    await until(lambda: waiting.done)
    assert [client.was_cut for client in clients] == [False, True, True]


async def test_slow_client_is_not_cut_within_grace_period(
    outgoing: Outgoing, budget: SendBudget, clock: Clock
) -> None:
    client = Client()
    send(outgoing, budget, client, 300)
    waiting = budget.take(100)
    clock.now = GRACE - 0.1
    await cut_slowest(outgoing)
    assert not client.was_cut
    waiting.cancel()


async def test_no_client_is_cut_while_no_read_waits(
    outgoing: Outgoing, budget: SendBudget, clock: Clock
) -> None:
    client = Client()
    send(outgoing, budget, client, 300)
    clock.now = 1000
    await cut_slowest(outgoing)
    assert not client.was_cut


async def test_shared_page_is_freed_when_all_its_readers_are_cut(
    outgoing: Outgoing, budget: SendBudget, clock: Clock
) -> None:
    budget.add(300)
    run = Run(budget, b"x" * 300)
    clients = [Client() for _ in range(3)]
    for client in clients:
        outgoing.hold(client, run)
    del run
    waiting = budget.take(100)
    clock.now = GRACE
    await cut_slowest(outgoing)
    assert [client.was_cut for client in clients] == [True] * 3
    await until(lambda: waiting.done)
    assert budget.held == 100


def test_grace_period_does_not_restart_when_a_page_is_held_again(
    outgoing: Outgoing, budget: SendBudget, clock: Clock
) -> None:
    client = Client()
    budget.add(100)
    run = Run(budget, b"x" * 100)
    outgoing.hold(client, run)
    clock.now = GRACE
    outgoing.hold(client, run)
    assert outgoing._held[client].since == 0
    outgoing.release(client)
    outgoing.release(client)
    del run
    assert budget.held == 0


async def test_timer_cuts_slow_clients_while_reads_wait(
    outgoing: Outgoing, budget: SendBudget, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_INTERVAL", 0.01)
    client = Client()
    send(outgoing, budget, client, 300)
    waiting = budget.take(100)
    clock.now = GRACE
    await until(lambda: waiting.done)
    assert client.was_cut
    await until(lambda: outgoing._timer is None)
