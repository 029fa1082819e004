"""Places for deliveries: so many in all, so many for one host, in the order of waiting."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from durable_streams_server.subscriptions.slots import Slots


class Queue:
    """Slots, and those who want them."""

    def __init__(self, most: int, per_host: int) -> None:
        self.slots = Slots(most, per_host)
        self.order: list[str] = []  # as they got in
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def want(self, *names: str) -> None:
        """Has each wait for a place at the host that its first letter is."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._take(name))
        await settle()

    async def _take(self, name: str) -> None:
        await self.slots.take(name[0])
        self.order.append(name)

    async def leave(self, name: str) -> None:
        self.slots.give_back(name[0])
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def queues() -> AsyncIterator[list[Queue]]:
    made: list[Queue] = []
    yield made
    for queue in made:
        for task in queue.tasks.values():
            task.cancel()
        await asyncio.gather(*queue.tasks.values(), return_exceptions=True)


async def test_one_host_has_its_limit_and_delays_no_other(queues: list[Queue]) -> None:
    queue = Queue(10, 2)
    queues.append(queue)
    await queue.want("a1", "a2", "a3", "a4", "b1")
    assert queue.order == ["a1", "a2", "b1"]
    assert queue.slots.taken == 3
    await queue.leave("b1")
    assert queue.order == ["a1", "a2", "b1"]
    await queue.leave("a1")
    assert queue.order[3:] == ["a3"]
    await queue.leave("a2")
    assert queue.order[3:] == ["a3", "a4"]


async def test_all_together_have_a_limit(queues: list[Queue]) -> None:
    queue = Queue(2, 2)
    queues.append(queue)
    await queue.want("a1", "b1", "c1", "d1")
    assert queue.order == ["a1", "b1"]
    await queue.leave("a1")
    await queue.leave("b1")
    assert queue.order == ["a1", "b1", "c1", "d1"]
    assert queue.slots.taken == 2


async def test_a_busy_host_does_not_keep_its_places_while_others_wait(queues: list[Queue]) -> None:
    queue = Queue(2, 2)
    queues.append(queue)
    await queue.want(*(f"a{n}" for n in range(6)), "b1", "b2", "c1")
    await queue.leave("a0")
    await queue.leave("a1")
    await queue.leave("a2")
    assert queue.order[2:] == ["a2", "b1", "c1"]
    await queue.leave("b1")
    await queue.leave("c1")
    assert queue.order[5:] == ["a3", "b2"]


async def test_a_host_at_its_limit_is_passed_over(queues: list[Queue]) -> None:
    queue = Queue(3, 2)
    queues.append(queue)
    await queue.want("a1", "a2", "b1", "a3", "c1")
    await queue.leave("b1")
    assert queue.order == ["a1", "a2", "b1", "c1"]
    await queue.leave("c1")
    assert queue.slots.taken == 2
    await queue.leave("a1")
    assert queue.order[4:] == ["a3"]


async def test_one_who_waits_no_longer_leaves_nothing(queues: list[Queue]) -> None:
    queue = Queue(1, 1)
    queues.append(queue)
    await queue.want("a1", "a2", "a3", "b1")
    for name in ("a2", "b1"):
        queue.tasks[name].cancel()
    await settle()
    assert [len(each) for each in queue.slots._waiting.values()] == [1]
    await queue.leave("a1")
    assert queue.order == ["a1", "a3"]
    await queue.leave("a3")
    assert (queue.slots.taken, queue.slots._waiting, queue.slots._taken) == (0, {}, {})


async def test_one_who_is_cancelled_as_his_turn_comes_gives_it_on(queues: list[Queue]) -> None:
    queue = Queue(1, 1)
    queues.append(queue)
    await queue.want("a1", "a2", "b1")
    queue.slots.give_back("a")
    queue.tasks["a2"].cancel()
    await settle()
    assert queue.order == ["a1", "b1"]
    await queue.leave("b1")
    assert queue.slots.taken == 0


async def test_one_who_is_cancelled_and_has_not_left_yet_is_passed_over(
    queues: list[Queue],
) -> None:
    queue = Queue(1, 1)
    queues.append(queue)
    await queue.want("a1", "a2", "b1")
    queue.tasks["a2"].cancel()
    queue.slots.give_back("a")
    await settle()
    assert queue.order == ["a1", "b1"]
    await queue.leave("b1")
    assert (queue.slots.taken, queue.slots._waiting) == (0, {})


async def test_newcomers_do_not_pass_those_who_wait(queues: list[Queue]) -> None:
    queue = Queue(1, 1)
    queues.append(queue)
    await queue.want("a1", "a2")
    queue.slots.give_back("a")  # a2 has its place, and has not run yet
    await queue.want("a3")
    assert queue.order == ["a1", "a2"]
    await queue.leave("a2")
    assert queue.order == ["a1", "a2", "a3"]


async def test_everybody_gets_in_at_last(queues: list[Queue]) -> None:
    queue = Queue(4, 2)
    queues.append(queue)
    names = [f"{host}{number}" for number in range(20) for host in "abcde"]
    await queue.want(*names)
    inside = 0
    while len(queue.order) < len(names):
        assert queue.slots.taken <= 4
        await queue.leave(queue.order[inside])
        inside += 1
    assert sorted(queue.order) == sorted(names)
    for host in "abcde":
        mine = [name for name in queue.order if name[0] == host]
        assert mine == [name for name in names if name[0] == host]
