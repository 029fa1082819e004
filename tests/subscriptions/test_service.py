"""Tests the commands of `Service`, and the steps that its schedule runs."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from durable_streams_server.errors import (
    BadRequest,
    Conflict,
    Fenced,
    NotFound,
    StorageFull,
    TooManyRequests,
)
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Release,
    Tend,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.options import EngineOptions
from durable_streams_server.subscriptions.public_url import check_public_url
from durable_streams_server.subscriptions.service import Service
from tests.protocol.subscriptions.world import HOOK, POOL, ROOT, A, B, subscribe
from tests.storage.contract_base import settled
from tests.subscriptions.services import TAKEN, RefusingStore, Running


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running().start()
    await made.create_streams(A, B, POOL)
    yield made
    await made.stop()


async def claim(running: Running) -> View:
    view = await running.run(Claim("s", "w"))
    assert isinstance(view, View)
    return view


def acknowledge(view: View) -> Acknowledge:
    assert view.wake is not None
    return Acknowledge(view.grant, view.generation, view.wake.wake_id)


# Commands of clients


async def test_rejected_webhook_url_creates_no_subscription_and_no_key(running: Running) -> None:
    running.client.refusal = BadRequest("the webhook may not go there", "WEBHOOK_URL_REJECTED")
    with pytest.raises(BadRequest, match="may not go"):
        await running.subscribe()
    assert running.client.checked == [HOOK]
    assert len(running.store.subscriptions) == 0
    assert running.store.subscriptions.keys == ()


async def test_webhook_without_public_url_is_refused(running: Running) -> None:
    running.service.public_url = None
    with pytest.raises(BadRequest) as caught:
        await running.subscribe()
    assert caught.value.code == "PUBLIC_URL_UNKNOWN"
    assert running.client.checked == []
    await running.subscribe(type="pull-wake")


async def test_subscribe_above_the_limit_of_its_owner_looks_up_no_name(running: Running) -> None:
    await running.run(subscribe("a", "token:me", 1))
    hooked = subscribe("b", "token:me", 1, type="webhook")
    with pytest.raises(TooManyRequests) as caught:
        running.service.subscribe(hooked)
    assert caught.value.code == "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN"
    assert running.client.checked == []
    assert running.store.subscriptions.keys == ()


async def test_limit_of_an_owner_is_checked_again_after_the_name_lookup(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = asyncio.Event()
    urls = []

    async def look_up(url: str) -> None:
        urls.append(url)
        await looked_up.wait()

    monkeypatch.setattr(running.client, "resolve_and_check", look_up)
    tickets = [
        running.service.subscribe(subscribe(id_, "token:me", 1, type="webhook")) for id_ in "ab"
    ]
    await running.until(lambda: urls == [HOOK, HOOK])
    looked_up.set()
    outcomes = await asyncio.gather(*map(settled, tickets), return_exceptions=True)
    assert [type(each) for each in outcomes].count(TooManyRequests) == 1
    assert running.store.subscriptions.owners.counts == {"token:me": 1}


async def test_first_webhook_creates_the_signing_key(running: Running) -> None:
    await running.subscribe()
    (key,) = running.store.subscriptions.keys
    assert running.service.credentials.active_key == key
    await running.subscribe("t")
    assert running.store.subscriptions.keys == (key,)


async def test_cancelled_subscribe_cancels_its_name_lookup(running: Running) -> None:
    running.client.check_hangs = True
    ticket = running.service.subscribe(subscribe(type="webhook"))
    await running.until(lambda: bool(running.client.checked))
    ticket.cancel()
    await asyncio.wait_for(running.client.check_ended.wait(), 5)
    assert len(running.store.subscriptions) == 0


async def test_view_lists_linked_streams_by_path(running: Running) -> None:
    await running.subscribe(type="pull-wake", streams=["x"], pattern="events/*")
    view, streams, truncated = await settled(running.service.view("s"))
    assert view.id == "s"
    assert [stream.path for stream in streams] == [A, B, f"{ROOT}/x"]
    assert truncated is False
    with pytest.raises(NotFound):
        await settled(running.service.view("t"))


async def test_subscribe_with_other_configuration_raises_conflict(running: Running) -> None:
    await running.subscribe()
    with pytest.raises(Conflict):
        await running.subscribe(description="other")


# Steps of the schedule


async def test_expired_lease_begins_the_next_wake(running: Running) -> None:
    await running.subscribe(type="pull-wake", lease_ttl_ms=5000)
    await running.append_news(A)
    view = await claim(running)
    await running.pass_time(4)
    await settled(running.service.acknowledge(acknowledge(view)))
    await running.pass_time(4)
    assert (await running.view()).generation == 1
    await running.pass_time(1)
    after = await running.view()
    assert after.generation == 2
    assert after.wake is not None
    assert after.wake.holder is None
    assert running.service.schedule.next is None or running.service.schedule._times == {}


async def test_expired_lease_is_retried_while_the_store_is_full() -> None:
    store = RefusingStore()
    store.error = StorageFull("full")
    running = Running(store).start()
    await running.create_streams(A, POOL)
    await running.subscribe(type="pull-wake")
    await running.append_news(A)
    await claim(running)
    store.refuses = (Tend,)
    await running.pass_time(31)
    await running.pass_time(1)
    assert (await running.view()).generation == 1
    store.refuses = ()
    await running.pass_time(1)
    assert (await running.view()).generation == 2
    await running.stop()


async def test_deleted_subscription_leaves_the_schedule(running: Running) -> None:
    await running.subscribe(type="pull-wake")
    await running.append_news(A)
    await claim(running)
    assert running.service.schedule._times
    await running.run(Unsubscribe("s"))
    assert running.service.schedule._times == {}
    await running.pass_time(60)


async def test_released_wake_is_delivered_again_immediately(running: Running) -> None:
    await running.subscribe()
    await running.append_news(A)
    post = await running.wait_for_posts(1)
    post.answer(TAKEN)
    await running.settle()
    grant = running.service.credentials.read_token("s", post.document["callback_token"]).grant
    await running.run(Release(grant, grant.generation, post.document["wake_id"]))
    assert (await running.wait_for_posts(2)).generation == 2
    with pytest.raises(Fenced):
        await running.run(Release(grant, grant.generation, post.document["wake_id"]))


# Callback URLs


@pytest.mark.parametrize(
    ("root", "public", "url"),
    [
        ("/v1/stream", "https://h", "https://h/v1/stream/__ds/subscriptions/a%20b/callback"),
        ("/v1/stream", "https://h/", "https://h/v1/stream/__ds/subscriptions/a%20b/callback"),
        ("/v1/stream/", "https://h/m//", "https://h/m/v1/stream/__ds/subscriptions/a%20b/callback"),
        ("/", "http://h:81", "http://h:81/__ds/subscriptions/a%20b/callback"),
        ("/my streams", "https://h", "https://h/my%20streams/__ds/subscriptions/a%20b/callback"),
    ],
)
def test_callback_url_joins_public_url_and_root_with_one_slash(
    root: str, public: str, url: str
) -> None:  # TRAPS 30
    engine = Engine(MemoryStore(), EngineOptions(stream_root=root))
    assert Service(engine, check_public_url(public)).url_of("a b", "callback") == url
