"""Tests that leases, retries and tokens keep their length when the wall clock is set by hours or years, and that dates follow it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import jwt
import pytest

from durable_streams_server.errors import AlreadyClaimed, Unauthorized
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.signing import SIGNATURE_HEADER
from durable_streams_server.protocol.subscriptions import render
from durable_streams_server.protocol.subscriptions.commands import Claim, Grant
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.subscriptions.client import Reply
from durable_streams_server.subscriptions.schedule import Schedule
from durable_streams_server.subscriptions.tokens import TOKEN_LIFE
from tests.protocol.subscriptions.world import POOL, A, B
from tests.requests import NOW, SECOND, create
from tests.storage.contract_base import settled
from tests.storage.files.stores import new_disk, open_store
from tests.streams.engines import SettableClock
from tests.subscriptions.services import Running

HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400  # seconds
STEPS = [2 * HOUR, -2 * HOUR, DAY, -DAY, 7 * YEAR, -7 * YEAR]


class RunningWithSettableClock(Running):
    """A service whose wall clock the test can set."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(store, SettableClock())

    @property
    def clock(self) -> SettableClock:
        clock = super().clock
        assert isinstance(clock, SettableClock)
        return clock

    def set_clock(self, seconds: float) -> None:
        """Sets the wall clock forward by `seconds`, or back."""
        self.clock.set(seconds)
        self.engine.clock.detect_step()


@pytest.fixture
async def running() -> AsyncIterator[RunningWithSettableClock]:
    made = RunningWithSettableClock()
    made.start()
    await made.create_streams(A, B, POOL)
    yield made
    await made.stop()


@pytest.mark.parametrize("step", STEPS)
async def test_clock_change_does_not_change_the_length_of_a_lease(
    running: RunningWithSettableClock, step: int
) -> None:
    await running.subscribe(type="pull-wake", lease_ttl_ms=5000)
    await running.append_news(A)
    await running.run(Claim("s", "one"))
    running.set_clock(step)
    await running.pass_time(4)
    with pytest.raises(AlreadyClaimed):
        await running.run(Claim("s", "two"))
    assert (await running.view()).generation == 1
    await running.pass_time(1)
    assert (await running.view()).generation == 2


@pytest.mark.parametrize("step", STEPS)
async def test_clock_change_does_not_change_the_delay_of_a_retry(
    running: RunningWithSettableClock, step: int
) -> None:
    await running.subscribe()
    await running.append_news(A)
    (await running.wait_for_posts(1)).answer(Reply(500, b""))
    await running.settle()
    running.set_clock(step)
    await running.pass_time(0.7)
    assert len(running.client.posts) == 1
    await running.pass_time(0.6)
    assert len(running.client.posts) == 2


@pytest.mark.parametrize("step", STEPS)
async def test_clock_change_does_not_change_the_lifetime_of_a_token(
    running: RunningWithSettableClock, step: int
) -> None:
    ticket = running.service.credentials.ensure_keys()
    assert ticket.done
    token = running.service.credentials.issue_token(Grant("s", 1, 1))
    running.set_clock(step)
    running.clock.forward(TOKEN_LIFE - 1)
    assert running.service.credentials.read_token("s", token)[0] == Grant("s", 1, 1)
    running.clock.forward(2)
    with pytest.raises(Unauthorized) as caught:
        running.service.credentials.read_token("s", token)
    assert caught.value.code == "TOKEN_EXPIRED"


@pytest.mark.parametrize("step", STEPS)
async def test_clock_change_does_not_change_how_long_a_retired_key_is_published(
    running: RunningWithSettableClock, step: int
) -> None:
    assert running.service.credentials.ensure_keys().done
    running.service.credentials.rotate().result()
    running.set_clock(step)
    running.clock.forward(HOUR - 1)
    assert len((await settled(running.service.jwks()))["keys"]) == 2
    running.clock.forward(1)
    assert len((await settled(running.service.jwks()))["keys"]) == 1


async def test_dates_in_documents_tokens_and_signatures_follow_the_wall_clock(
    running: RunningWithSettableClock,
) -> None:
    running.set_clock(DAY)
    today = NOW // SECOND + DAY
    view = await running.subscribe()
    shown = render.subscription(view, [], running.service.relative, None, truncated=False)
    created = datetime.fromisoformat(str(shown["created_at"]))
    assert created == datetime.fromtimestamp(today, UTC)
    token = running.service.credentials.issue_token(view.grant)
    assert jwt.decode(token, options={"verify_signature": False})["exp"] == today + TOKEN_LIFE
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    signature = dict(post.headers)[SIGNATURE_HEADER].decode()
    assert f"t={today}," in signature


async def test_date_of_a_wake_event_follows_the_wall_clock(
    running: RunningWithSettableClock,
) -> None:
    await running.subscribe(type="pull-wake", wake_stream="wakes")
    path = next(iter(running.store.subscriptions)).wake_stream
    assert path is not None
    await running.create_streams(path)
    running.set_clock(DAY)
    await running.append_news(A)
    state = running.store.find(path).result()
    assert state is not None
    data = running.store.read_bytes(state.incarnation, 0, state.tail).result()
    assert json.loads(data.rstrip(b","))["ts"] == (NOW // SECOND + DAY) * 1000


async def test_dates_in_the_registry_follow_the_wall_clock() -> None:
    running = RunningWithSettableClock()
    running.store.configure(Registry("/registry"))
    running.set_clock(DAY)
    await running.run(create("/x"))
    state = running.store.find("/registry").result()
    assert state is not None
    event = json.loads(
        running.store.read_bytes(state.incarnation, 0, state.tail).result().rstrip(b",")
    )
    assert event["value"]["createdAt"] == (NOW // SECOND + DAY) * 1000
    assert datetime.fromisoformat(event["headers"]["timestamp"]) == datetime.fromtimestamp(
        NOW // SECOND + DAY, UTC
    )


@pytest.mark.parametrize("step", STEPS)
async def test_clock_change_before_a_restart_does_not_change_the_length_of_a_lease(
    step: int,
) -> None:
    disk, clock = new_disk(), SettableClock()
    first = Running(open_store(disk), clock)
    first.start()
    await first.create_streams(A, POOL)
    await first.subscribe(type="pull-wake", lease_ttl_ms=5000)
    await first.append_news(A)
    await first.run(Claim("s", "one"))
    clock.set(step)
    first.engine.clock.detect_step()
    await first.stop()
    first.store.close()
    second = Running(open_store(disk), clock)
    second.start()
    await second.pass_time(4)
    assert (await second.view()).generation == 1
    await second.pass_time(1)
    await second.until(lambda: next(iter(second.store.subscriptions)).generation == 2)
    await second.stop()
    second.store.close()


async def test_timer_set_after_clock_was_set_back_has_unchanged_delay() -> None:
    running = RunningWithSettableClock()
    loop = asyncio.get_running_loop()
    schedule = Schedule(running.engine.clock, lambda _: None, running.engine.turns)
    schedule.start(loop)
    running.set_clock(-DAY)
    schedule.set("s", running.engine.clock() + SECOND // 2)
    assert schedule._timer is not None
    assert 0.4 < schedule._timer.when() - loop.time() <= 0.5
    schedule.stop()
