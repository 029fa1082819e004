"""The listing of streams: what it shows, its pages, and how long it holds the event loop."""

import asyncio
import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.errors import StreamDamaged
from durable_streams_server.http.control.listing import (
    DEFAULT_STREAMS_LISTED,
    MAX_STREAMS_LISTED,
    ListingRoute,
)
from durable_streams_server.http.control.routes import STREAMS as STREAMS_ROUTE
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.lifetime import timestamp
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Cancelled, Ticket
from tests.http.asgi_driver import request, start_live_read
from tests.http.control_site import CONTROL, ROOT, Site
from tests.http.socket_driver import until
from tests.requests import NOW, SECOND, create
from tests.streams.engines import ManualClock

STREAMS = f"{CONTROL}/streams"
A = f"{ROOT}/a"
TEXT = {"content-type": "text/plain"}


@pytest.fixture
async def site() -> Site:
    return Site()


async def paths(site: Site, query: str = "") -> list[str]:
    """Returns the paths in one page."""
    page = await site.value("GET", f"{STREAMS}{query}")
    return [stream["path"] for stream in page["streams"]]


async def test_listing_shows_each_stream(site: Site) -> None:
    await site.ask("PUT", A, headers={**TEXT, "stream-ttl": "600"})
    first = await site.ask("POST", A, 1, {"content-type": "text/plain"})
    head = await site.ask("HEAD", A)
    site.clock.now += 90 * SECOND
    reader = start_live_read(site.app, A, "sse")
    await reader.until(b"data")
    fork = {"stream-forked-from": A, "stream-expires-at": "2099-01-01T00:00:00Z"}
    fork["stream-public"] = "true"
    await site.ask("PUT", f"{ROOT}/fork", headers={**fork, "stream-closed": "true"})
    page = await site.value("GET", STREAMS)
    assert first.status == 204
    assert page["next"] is None
    stream, forked = page["streams"]
    assert stream == {
        "path": A,
        "content_type": "text/plain",
        "tail": head.headers["stream-next-offset"],
        "closed": False,
        "public": False,
        "readers": 1,
        "bytes": 1,
        "created_at": stream["created_at"],
        "age_seconds": 90,
        "ttl_seconds": 600,
    }
    assert stream["created_at"].endswith("Z")
    assert forked["forked_from"] == A
    assert forked["expires_at"] == "2099-01-01T00:00:00Z"
    assert (forked["bytes"], forked["closed"], forked["readers"]) == (0, True, 0)
    assert forked["public"] is True
    assert forked["tail"] == stream["tail"]
    reader.disconnect()
    await reader.finish()


async def test_creation_time_is_a_date_of_the_wall_clock(site: Site) -> None:
    site.clock.now = NOW
    await site.ask("PUT", A, headers=TEXT)
    (stream,) = (await site.value("GET", STREAMS))["streams"]
    assert stream["created_at"] == timestamp(NOW)
    assert stream["age_seconds"] == 0


async def test_deleted_and_expired_streams_are_not_listed(site: Site) -> None:
    await site.ask("PUT", A, headers=TEXT)
    await site.ask("PUT", f"{ROOT}/b", headers={"stream-forked-from": A})
    await site.ask("PUT", f"{ROOT}/c", headers={**TEXT, "stream-ttl": "1"})
    assert await paths(site) == [A, f"{ROOT}/b", f"{ROOT}/c"]
    await site.ask("DELETE", A)  # its fork still needs its bytes
    site.clock.now += 2 * SECOND
    assert await paths(site) == [f"{ROOT}/b"]


async def test_pages_follow_each_other_in_the_order_of_paths(site: Site) -> None:
    made = sorted(f"{ROOT}/{number}" for number in range(250))
    for path in made:
        await site.ask("PUT", path, headers=TEXT)
    page = await site.value("GET", STREAMS)
    assert [stream["path"] for stream in page["streams"]] == made[:DEFAULT_STREAMS_LISTED]
    assert page["next"] == made[DEFAULT_STREAMS_LISTED - 1]
    found: list[str] = []
    after = ""
    while True:
        page = await site.value("GET", f"{STREAMS}?limit=70&after={after}")
        found += [stream["path"] for stream in page["streams"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert found == made
    assert await paths(site, f"?limit={MAX_STREAMS_LISTED}") == made
    page = await site.value("GET", f"{STREAMS}?limit=250")
    assert page["next"] is None


async def test_prefix_and_after_are_decoded_paths(site: Site) -> None:
    for name in ("a", "ab", "a/é", "a/b c", "b"):
        await request(site.app, "PUT", f"{ROOT}/{name}".replace(" ", "%20").encode(), TEXT)
    assert await paths(site, f"?prefix={ROOT}/a/") == [f"{ROOT}/a/b c", f"{ROOT}/a/é"]
    assert await paths(site, f"?prefix={ROOT}/a%2F%C3%A9") == [f"{ROOT}/a/é"]
    assert await paths(site, f"?after={ROOT}/a/b+c&prefix={ROOT}/a") == [
        f"{ROOT}/a/é",
        f"{ROOT}/ab",
    ]
    assert await paths(site, f"?after={ROOT}/zz") == []
    assert await paths(site, "?prefix=/other&unknown=1&limit=&after=") == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        *((f"limit={value}", "INVALID_LIMIT") for value in ("0", "-1", "01", "1.0", "x", "1001")),
        ("limit=%D9%A3", "INVALID_LIMIT"),
        ("limit=1&limit=1", "INVALID_QUERY"),
        ("after=%ff", "INVALID_QUERY"),
        ("after=chat", "INVALID_PATH"),
        ("after=/a//b", "INVALID_PATH"),
        ("after=/" + "x" * 500, "INVALID_PATH"),
        ("prefix=chat", "INVALID_PATH"),
        ("prefix=/" + "%C3%A9" * 250, "INVALID_PATH"),
    ],
)
async def test_invalid_parameter_is_refused(site: Site, query: str, code: str) -> None:
    for method in ("GET", "HEAD"):
        answer = await site.ask(method, f"{STREAMS}?{query}")
        assert answer.status == 400
    answer = await site.ask("GET", f"{STREAMS}?{query}")
    assert answer.error["code"] == code


async def test_damaged_streams_are_listed_with_what_is_known(site: Site) -> None:
    for name in "ab":
        await site.ask("PUT", f"{ROOT}/{name}", headers=TEXT)
    store = site.app.engine.store
    found = store.find(f"{ROOT}/b").result()
    assert found is not None
    found.damage = "its log is missing"
    find = store.find

    def fail(path: str) -> Ticket[StreamState | None]:
        return Ticket.failed(StreamDamaged("damaged")) if path == A else find(path)

    with mock.patch.object(store, "find", fail):
        first, second = (await site.value("GET", STREAMS))["streams"]
    assert first == {"path": A, "damaged": True}
    assert (second["damaged"], second["content_type"]) == (True, "text/plain")


async def test_stream_that_ends_while_it_is_looked_up_is_left_out(site: Site) -> None:
    for name in "abc":
        await site.ask("PUT", f"{ROOT}/{name}", headers=TEXT)
    store = site.app.engine.store
    find = store.find

    def gone(path: str) -> Ticket[StreamState | None]:
        return Ticket.of(None) if path == A else find(path)

    with mock.patch.object(store, "find", gone):
        page = await site.value("GET", f"{STREAMS}?limit=2")
    assert [stream["path"] for stream in page["streams"]] == [f"{ROOT}/b"]
    assert page["next"] == f"{ROOT}/b"


class WaitingStore(StreamStore):
    """A store whose lookups resolve later, in the reverse order, or fail."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error

    def find(self, path: str) -> Ticket[StreamState | None]:
        found: Ticket[StreamState | None] = Ticket()
        state = super().find(path).result()
        resolve = (
            (lambda: found.resolve(state)) if self.error is None else lambda: found.fail(self.error)  # type: ignore[arg-type]  # it is not None here
        )
        asyncio.get_running_loop().call_soon(resolve)
        return found


async def test_listing_waits_for_a_store_that_looks_up_later() -> None:
    store = WaitingStore()
    for number in range(40):
        store.execute(create(f"{ROOT}/{number:02}"), NOW)
    assert await paths(Site(store)) == [f"{ROOT}/{number:02}" for number in range(40)]


async def test_pages_are_collected_one_at_a_time_and_only_for_clients_that_wait() -> None:
    store = StreamStore()
    for number in range(40):
        store.execute(create(f"{ROOT}/{number:02}"), NOW)
    site = Site(store)
    began: list[str] = []
    ordered_paths = store.ordered_paths

    def note(prefix: str, after: str, limit: int) -> Iterator[str | None]:
        began.append(after)
        return ordered_paths(prefix, after, limit)

    site.app.begin()
    with mock.patch.object(store, "ordered_paths", note):
        route = ListingRoute(site.app.engine)
        list_ = route.actions[STREAMS_ROUTE, "GET"]
        pages = [list_(Request("GET", b"", b"after=/%d" % n, {})) for n in range(5)]
        assert began == ["/0"]
        pages[1].cancel()
        pages[0].cancel()
        await until(lambda: all(page.done for page in pages))
    assert began == ["/0", "/2", "/3", "/4"]
    for page in pages[2:]:
        assert len(json.loads(page.result().body)["streams"]) == 40
    for page in pages[:2]:
        with pytest.raises(Cancelled):
            page.result()
    await site.app.stop()


async def test_thousands_of_pages_can_wait() -> None:
    store = StreamStore()
    for number in range(40):
        store.execute(create(f"{ROOT}/{number:02}"), NOW)
    site = Site(store)
    site.app.begin()
    list_ = ListingRoute(site.app.engine).actions[STREAMS_ROUTE, "GET"]
    long = list_(Request("GET", b"", b"", {}))
    short = [list_(Request("GET", b"", b"limit=1", {})) for _ in range(3000)]
    assert not long.done
    await until(lambda: all(page.done for page in short))
    assert {page.result().status for page in short} == {200}
    await site.app.stop()


async def test_unexpected_error_of_a_lookup_ends_the_listing() -> None:
    store = WaitingStore(RuntimeError("a bug"))
    store.execute(create(A), NOW)
    answer = await Site(store).ask("GET", STREAMS)
    assert (answer.status, answer.error["code"]) == (500, "INTERNAL_ERROR")


async def test_listing_of_a_file_store_loads_no_more_streams_than_it_shows(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path / "data") as store:
        for number in range(60):
            store.create(f"{ROOT}/{number:03}", "text/plain")
    with FileBackedStreamStore(tmp_path / "data") as store:
        app = create_app(store=store)
        answer = await request(app, "GET", f"{STREAMS}?limit=10&after={ROOT}/020")
        page: Any = json.loads(answer.body)
        assert [stream["path"] for stream in page["streams"]] == [
            f"{ROOT}/{number:03}" for number in range(21, 31)
        ]
        assert page["next"] == f"{ROOT}/030"
        assert len(store.states.newest) == 10
        await app.stop()


@pytest.mark.slow("creates 100,000 streams")
async def test_page_of_100000_streams_holds_the_event_loop_only_for_short_steps() -> None:
    store = MemoryStore()
    for number in range(100_000):
        store.execute(create(f"/{number * 7 % 100_000:06}", "text/plain"), NOW + number)
    app = create_app(store=store, clock=ManualClock())
    app.begin()
    loop = asyncio.get_running_loop()
    longest, steps, is_over = 0.0, 0, False

    def watch(before: float) -> None:
        nonlocal longest, steps
        longest = max(longest, time.thread_time() - before)
        steps += 1
        if not is_over:
            loop.call_soon(watch, time.thread_time())

    gc.disable()  # a garbage collection would look at all these streams within one step
    try:
        watch(time.thread_time())
        answer = await request(app, "GET", f"{STREAMS}?limit=1000&after=/050000")
        is_over = True
    finally:
        gc.enable()
    page = json.loads(answer.body)
    assert [stream["path"] for stream in page["streams"]] == [
        f"/{number:06}" for number in range(50_001, 51_001)
    ]
    assert steps > 5
    assert longest < 0.02  # about 5 ms; a listing in one step takes more than 30 ms
    await app.stop()
