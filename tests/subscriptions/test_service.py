"""What clients ask for, what the clock brings, and what a service that is made anew takes up."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from durable_streams_server.errors import (
    BadRequest,
    Conflict,
    Fenced,
    NotFound,
    StorageFull,
    Unauthorized,
)
from durable_streams_server.protocol.commands import Command, Delete
from durable_streams_server.protocol.decide import Outcome
from durable_streams_server.protocol.offsets import Offset, parse
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Grant,
    Release,
    Tend,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.views import MAX_LISTED, View
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.store import Marks
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.options import EngineOptions
from durable_streams_server.subscriptions.client import Reply
from durable_streams_server.subscriptions.service import Service, check_public_url
from durable_streams_server.subscriptions.tokens import TOKEN_LIFE
from tests.protocol.subscriptions.world import HOOK, JSON, POOL, ROOT, A, B, subscribe
from tests.requests import SECOND, append, create
from tests.storage.contract import settled
from tests.subscriptions.services import DONE, TAKEN, Running


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running().start()
    await made.streams(A, B, POOL)
    yield made
    await made.stop()


async def claimed(running: Running, worker: str = "w") -> View:
    view = await running.run(Claim("s", worker))
    assert isinstance(view, View)
    return view


def acknowledging(view: View, *acks: tuple[str, Offset], done: bool = False) -> Acknowledge:
    assert view.wake is not None
    return Acknowledge(view.grant, view.generation, view.wake.wake_id, acks, done)


# -- subscribing ------------------------------------------------------------


async def test_a_webhooks_url_is_judged_before_anything_is_written(running: Running) -> None:
    running.client.refusal = BadRequest("the webhook may not go there", "WEBHOOK_URL_REJECTED")
    with pytest.raises(BadRequest, match="may not go"):
        await running.subscribe()
    assert running.client.checked == [HOOK]
    assert len(running.store.subscriptions) == 0
    assert running.store.subscriptions.keys == ()


async def test_a_webhook_needs_a_public_url(running: Running) -> None:
    running.service.public_url = None
    with pytest.raises(BadRequest) as caught:
        await running.subscribe()
    assert caught.value.code == "PUBLIC_URL_UNKNOWN"
    assert running.client.checked == []
    await running.subscribe(type="pull-wake")


async def test_a_webhook_has_keys_before_it_has_deliveries(running: Running) -> None:
    await running.subscribe()
    (key,) = running.store.subscriptions.keys
    assert running.service.active_key == key
    await running.subscribe("t")
    assert running.store.subscriptions.keys == (key,)


async def test_giving_up_a_put_ends_its_lookup(running: Running) -> None:
    begun = asyncio.Event()
    ended = asyncio.Event()

    async def slow(_: str) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    running.client.resolve_and_check = slow  # type: ignore[method-assign, assignment]
    ticket = running.service.subscribe(subscribe(type="webhook"))
    await begun.wait()
    ticket.cancel()
    await asyncio.wait_for(ended.wait(), 5)
    assert len(running.store.subscriptions) == 0


async def test_a_subscription_is_shown_with_its_links(running: Running) -> None:
    await running.subscribe(type="pull-wake", streams=["x"], pattern="events/*")
    view, streams, truncated = await settled(running.service.view("s"))
    assert view.id == "s"
    assert [stream.path for stream in streams] == [A, B, f"{ROOT}/x"]
    assert truncated is False
    with pytest.raises(NotFound):
        await settled(running.service.view("t"))


# -- acknowledging ----------------------------------------------------------


async def test_every_stream_of_a_wake_can_be_acknowledged_at_once(running: Running) -> None:
    paths = [f"{ROOT}/many/{number}" for number in range(MAX_LISTED)]
    await running.subscribe(type="pull-wake", pattern="many/*")
    for path in paths:
        await running.run(create(path, JSON, b"1"))
    view = await claimed(running)
    acks = [(stream.path, parse(stream.tail)) for stream in view.streams]
    assert len(acks) == MAX_LISTED
    outcome = await settled(running.service.acknowledge(acknowledging(view, *acks, done=True)))
    assert outcome.next_wake is False
    assert (await running.view()).wake is None


class Slow(MemoryStore):
    """A store whose marks are read from a disk."""

    def marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        ticket: Ticket[Marks] = Ticket()
        found = super().marks(incarnation, position).result()
        asyncio.get_running_loop().call_soon(lambda: ticket.resolve(found))
        return ticket

    def read_bytes(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        ticket: Ticket[bytes] = Ticket()
        found = super().read_bytes(incarnation, start, end).result()
        asyncio.get_running_loop().call_soon(lambda: ticket.resolve(found))
        return ticket


async def test_so_can_those_that_have_to_be_read(running: Running) -> None:
    slow = Running(Slow()).start()
    await slow.streams(POOL)
    paths = [f"{ROOT}/many/{number}" for number in range(MAX_LISTED)]
    await slow.subscribe(type="pull-wake", pattern="many/*")
    for path in paths:
        await slow.run(create(path, JSON, b"[1,2]"))
    view = await claimed(slow)
    acks = [(stream.path, parse(stream.tail)._replace(position=2)) for stream in view.streams]
    async with asyncio.timeout(10):
        await settled(slow.service.acknowledge(acknowledging(view, *acks)))
    assert {stream.acked[-1] for stream in (await slow.view()).streams} == {"2"}
    await slow.stop()


@pytest.mark.parametrize("position", [1, 3, 5, 99])
async def test_an_offset_that_no_read_can_begin_at_is_refused(
    running: Running, position: int
) -> None:
    await running.subscribe(type="pull-wake")
    await running.run(append(A, b"[1,2]", JSON))
    await running.news(B)
    view = await claimed(running)
    offsets = {stream.path: parse(stream.tail) for stream in view.streams}
    acks = [(B, offsets[B]), (A, offsets[A]._replace(position=position))]
    for order in (acks, acks[::-1]):
        with pytest.raises(BadRequest) as caught:
            await settled(running.service.acknowledge(acknowledging(view, *order, done=True)))
        assert caught.value.code == "INVALID_OFFSET"
    assert len((await running.view()).streams) == 2


@pytest.mark.parametrize("position", [1, 2, 4])
async def test_ack_of_a_text_stream_names_the_end_of_an_append(
    running: Running, position: int
) -> None:
    path = f"{ROOT}/raw/1"
    await running.subscribe(type="pull-wake", pattern="raw/*")
    await running.run(create(path, "text/plain", b"abc"))
    view = await claimed(running)
    ack = (path, parse(view.streams[0].tail)._replace(position=position))
    with pytest.raises(BadRequest) as caught:
        await settled(running.service.acknowledge(acknowledging(view, ack)))
    assert caught.value.code == "INVALID_OFFSET"


async def test_acks_of_streams_that_are_gone_are_passed_over(running: Running) -> None:
    await running.subscribe(type="pull-wake")
    await running.news(A, B)
    view = await claimed(running)
    acks = [(stream.path, parse(stream.tail)) for stream in view.streams]
    await running.run(Delete(A))
    await running.run(Delete(B))
    await running.run(create(B, JSON, b"[1,2,3]"))
    acks.append((f"{ROOT}/never", Offset(1, 1)))
    outcome = await settled(running.service.acknowledge(acknowledging(view, *acks, done=True)))
    assert outcome.next_wake is True
    assert [stream.path for stream in (await running.view()).streams] == [B]


# -- keys and tokens --------------------------------------------------------


async def test_there_is_one_first_key_however_many_ask(running: Running) -> None:
    found = [await settled(ticket) for ticket in [running.service.keys() for _ in range(3)]]
    assert found[0] == found[1] == found[2] == running.store.subscriptions.keys
    published = await settled(running.service.jwks())
    assert [key["kid"] for key in published["keys"]] == [found[0][0].kid]
    assert all("d" not in key for key in published["keys"])


async def test_rotation_signs_anew_and_takes_the_old(running: Running) -> None:
    await settled(running.service.keys())
    grant = Grant("s", 1, 1)
    token = running.service.token(grant)
    old = running.service.active_key
    new, retired = await settled(running.service.rotate_keys())
    assert running.service.active_key == new != old
    assert retired.kid == old.kid
    assert running.service.grant("s", token) == (grant, False)
    assert len((await settled(running.service.jwks()))["keys"]) == 2


async def test_a_token_is_for_its_subscription_and_its_time(running: Running) -> None:
    await settled(running.service.keys())
    grant = Grant("s", 7, 3)
    token = running.service.token(grant)
    half = TOKEN_LIFE / 2
    assert running.service.grant("s", token) == (grant, False)
    for id_, text in [("t", token), ("s", token[:-1]), ("s", "x.y.z"), ("s", "")]:
        with pytest.raises(Unauthorized) as caught:
            running.service.grant(id_, text)
        assert caught.value.code == "INVALID_TOKEN"
    running.clock.forward(half + 1)
    assert running.service.grant("s", token) == (grant, True)
    running.clock.forward(half)
    with pytest.raises(Unauthorized) as caught:
        running.service.grant("s", token)
    assert caught.value.code == "TOKEN_EXPIRED"


async def test_nobody_has_a_token_before_there_are_keys(running: Running) -> None:
    other = Running().start()
    await settled(other.service.keys())
    token = other.service.token(Grant("s", 1, 1))
    await other.stop()
    with pytest.raises(Unauthorized):
        running.service.grant("s", token)


# -- the clock --------------------------------------------------------------


async def test_a_lease_lapses_when_its_time_has_come(running: Running) -> None:
    await running.subscribe(type="pull-wake", lease_ttl_ms=5000)
    await running.news(A)
    view = await claimed(running)
    await running.pass_time(4)
    await settled(running.service.acknowledge(acknowledging(view)))
    await running.pass_time(4)
    assert (await running.view()).generation == 1
    await running.pass_time(1)
    after = await running.view()
    assert after.generation == 2
    assert after.wake is not None
    assert after.wake.holder is None
    assert running.service.schedule.next is None or running.service.schedule._times == {}


async def test_a_lapse_that_the_store_has_no_room_for_comes_later() -> None:
    class Full(MemoryStore):
        full = False

        def execute(self, command: Command, now: int) -> Ticket[Outcome]:
            if self.full and isinstance(command, Tend):
                return Ticket.failed(StorageFull("full"))
            return super().execute(command, now)

    store = Full()
    running = Running(store).start()
    await running.streams(A, POOL)
    await running.subscribe(type="pull-wake")
    await running.news(A)
    await claimed(running)
    store.full = True
    await running.pass_time(31)
    await running.pass_time(1)
    assert (await running.view()).generation == 1
    store.full = False
    await running.pass_time(1)
    assert (await running.view()).generation == 2
    await running.stop()


async def test_what_is_deleted_has_no_time_any_more(running: Running) -> None:
    await running.subscribe(type="pull-wake")
    await running.news(A)
    await claimed(running)
    assert running.service.schedule._times
    await running.run(Unsubscribe("s"))
    assert running.service.schedule._times == {}
    await running.pass_time(60)


async def test_a_release_is_delivered_again_at_once(running: Running) -> None:
    await running.subscribe()
    await running.news(A)
    post = await running.posted(1)
    post.answer(TAKEN)
    await running.settle()
    grant, _ = running.service.grant("s", post.document["callback_token"])
    await running.run(Release(grant, grant.generation, post.document["wake_id"]))
    assert (await running.posted(2)).generation == 2
    with pytest.raises(Fenced):
        await running.run(Release(grant, grant.generation, post.document["wake_id"]))


# -- restarts ---------------------------------------------------------------


async def restarted(running: Running) -> Running:
    await running.stop()
    return Running(running.store, running.clock).start()


async def test_a_restart_delivers_what_was_due(running: Running) -> None:
    await running.subscribe()
    running.service.begin_shutdown()
    await running.news(A)
    await running.settle()
    assert running.client.posts == []
    again = await restarted(running)
    assert (await again.posted(1)).generation == 2  # nobody knows whether it was delivered before
    assert again.service.active_key == running.service.active_key
    await again.stop()


async def test_a_restart_honours_the_time_of_the_next_attempt(running: Running) -> None:
    await running.subscribe()
    await running.news(A)
    for attempt in range(5):
        (await running.posted(attempt + 1)).answer(Reply(500, b""))
        await running.settle()
        wake = (await running.view()).wake
        wait = ((wake.next_attempt if wake else None) or 0) - running.clock()
        assert wait > 0
        if attempt < 4:
            await running.pass_time(wait / SECOND)
    again = await restarted(running)
    await again.pass_time(wait / SECOND - 0.5)
    await again.silent()
    await again.pass_time(0.5)
    post = await again.posted(1)
    post.answer(DONE)
    await again.settle()
    assert (await again.view()).status == "active"
    await again.stop()


async def test_a_restart_does_not_deliver_again_what_is_leased(running: Running) -> None:
    await running.subscribe()
    await running.news(A)
    post = await running.posted(1)
    post.answer(TAKEN)
    await running.settle()
    again = await restarted(running)
    await again.pass_time(29)
    await again.silent()
    grant, _ = again.service.grant("s", post.document["callback_token"])
    await again.run(Acknowledge(grant, 1, post.document["wake_id"]))  # a heartbeat
    await again.pass_time(29)
    await again.silent()
    await again.pass_time(1)
    assert (await again.posted(1)).generation == 2
    await again.stop()


async def test_a_restart_lets_leases_lapse_that_ran_out_meanwhile(running: Running) -> None:
    await running.subscribe(type="pull-wake")
    await running.news(A)
    await claimed(running)
    await running.stop()
    running.clock.forward(3600)
    again = Running(running.store, running.clock).start()
    await again.until(lambda: again.store.subscriptions.get("s").generation == 2)  # type: ignore[union-attr]
    await again.stop()


async def test_nothing_begins_after_the_shutdown_has(running: Running) -> None:
    await running.subscribe()
    running.engine.begin_shutdown()
    running.service.begin_shutdown()
    await running.news(A)
    running.service._act("s")
    await running.settle()
    assert running.client.posts == []


# -- URLs -------------------------------------------------------------------


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
def test_urls_have_one_slash_everywhere(root: str, public: str, url: str) -> None:  # TRAPS 30
    engine = Engine(MemoryStore(), EngineOptions(stream_root=root))
    assert Service(engine, check_public_url(public)).url_of("a b", "callback") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "h.example/x",
        "//h",
        "ftp://h",
        "https://",
        "https:///x",
        "https://h?x",
        "https://h/#x",
        "https://user:secret@h",
        "https://h:99999",
        "https://h:x",
        "https://h\n.example",
        "https://h/a b",
    ],
)
def test_a_public_url_is_absolute_and_has_no_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL") as caught:
        check_public_url(url)
    assert "secret" not in str(caught.value)


async def test_a_conflict_passes_through(running: Running) -> None:
    await running.subscribe()
    with pytest.raises(Conflict):
        await running.subscribe(description="other")


@pytest.mark.parametrize("url", ["https://h", "HTTP://127.0.0.1:4437/x/", "https://[::1]:8/a-b/c"])
def test_a_public_url_may_have_a_port_and_a_path(url: str) -> None:
    assert check_public_url(url) == url.rstrip("/")
