"""Cache-Control of pages: caches keep a page that cannot change, and revalidate a page that can."""

from collections.abc import Mapping

import pytest

from durable_streams_server import StreamStore, create_app
from tests.http.asgi_driver import Answer
from tests.http.lanes import Caller
from tests.streams.engines import ManualClock

ROOT = "/v1/stream/"
A = ROOT + "a"
TEXT = {"content-type": "text/plain"}
CLOSED = {**TEXT, "stream-closed": "true"}
DAY = "public, max-age=86400"
PAGE = 1024


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["asgi", "native"])
def ask(request: pytest.FixtureRequest, clock: ManualClock) -> Caller:
    app = create_app(store=StreamStore(), page_size=PAGE, long_poll_timeout=0.01, clock=clock)
    return Caller(app, request.param == "native")


def cache_control(answer: Answer) -> str:
    """Returns the Cache-Control header of a response."""
    return answer.headers["cache-control"]


def after(answer: Answer, live: str = "") -> str:
    """Returns the URL of the page that follows a response."""
    return f"{A}?offset={answer.headers['stream-next-offset']}{live}"


async def test_page_that_can_grow_is_revalidated(ask: Caller) -> None:
    made = await ask("PUT", A, TEXT)
    for live in ("", "&live=long-poll&cursor=7"):
        start = after(made, live)
        first = await ask("POST", A, TEXT, b"one")
        page = await ask("GET", start)
        assert (page.status, cache_control(page)) == (200, "no-cache")
        same = await ask("GET", start, {"if-none-match": page.headers["etag"]})
        assert (same.status, cache_control(same)) == (304, "no-cache")
        assert same.headers["stream-next-offset"] == first.headers["stream-next-offset"]
        await ask("POST", A, TEXT, b"two")
        grown = await ask("GET", start, {"if-none-match": page.headers["etag"]})
        assert (grown.status, grown.body) == (200, page.body + b"two")


async def test_empty_page_at_the_tail_is_revalidated(ask: Caller) -> None:
    made = await ask("PUT", A, TEXT)
    for _ in range(4):  # the last two are answered from the cache of responses
        empty = await ask("GET", after(made))
        assert (empty.body, cache_control(empty)) == (b"", "no-cache")


async def test_page_that_cannot_change_may_be_cached_for_a_day(ask: Caller) -> None:
    made = await ask("PUT", A, TEXT)
    for size in (PAGE, PAGE, 100):
        await ask("POST", A, TEXT, b"x" * size)
    urls = [after(made)]
    for expected in (DAY, DAY, "no-cache"):
        page = await ask("GET", urls[-1])
        assert cache_control(page) == expected
        urls.append(after(page))
    await ask("POST", A, {"stream-closed": "true"})
    for url in urls:
        for _ in range(3):
            page = await ask("GET", url)
            assert cache_control(page) == DAY
        assert cache_control(await ask("GET", url, {"if-none-match": page.headers["etag"]})) == DAY
    assert cache_control(await ask("GET", urls[0] + "&live=long-poll")) == DAY


@pytest.mark.parametrize("query", ["", "?offset=-1", f"?offset={0:016d}_{0:016d}"])
async def test_page_without_an_incarnation_in_its_url_is_revalidated(
    ask: Caller, query: str
) -> None:
    await ask("PUT", A, TEXT, b"x" * PAGE)
    await ask("POST", A, CLOSED, b"x" * PAGE)
    page = await ask("GET", A + query)
    assert (len(page.body), cache_control(page)) == (PAGE, "no-cache")
    await ask("DELETE", A)
    await ask("PUT", A, TEXT, b"x" * PAGE)
    await ask("POST", A, TEXT, b"x" * PAGE)
    other = await ask("GET", A + query, {"if-none-match": page.headers["etag"]})
    assert other.status == 200
    assert (await ask("GET", after(other))).status == 200
    assert (await ask("GET", after(page))).status == 410


async def test_inherited_page_of_a_fork_is_revalidated(ask: Caller) -> None:
    """A later fork at the same path can have the same offset, but different bytes after its own fork point."""
    await ask("PUT", ROOT + "source", TEXT, b"x" * PAGE)
    for _ in range(2):
        source = await ask("POST", ROOT + "source", TEXT, b"x" * PAGE)
    fork = {"stream-forked-from": ROOT + "source"}
    made = await ask("PUT", A, fork)
    assert made.headers["stream-next-offset"] == source.headers["stream-next-offset"]
    first = await ask("GET", f"{A}?offset=-1")
    assert cache_control(await ask("GET", after(first))) == "no-cache"
    assert cache_control(await ask("GET", after(first).replace("/a?", "/source?"))) == DAY
    await ask("POST", A, CLOSED, b"own")
    assert cache_control(await ask("GET", after(made))) == "no-cache"
    assert cache_control(await ask("GET", after(await ask("HEAD", A)))) == DAY


async def test_page_is_cached_no_longer_than_its_stream_lives(
    ask: Caller, clock: ManualClock
) -> None:
    made = await ask("PUT", A, {**CLOSED, "stream-expires-at": "2025-06-15T15:07:40Z"}, b"")
    ages = []
    for _ in range(3):
        ages.append(cache_control(await ask("GET", after(made))))
        clock.forward(10)
    assert len({*ages}) == 3
    assert all(age.startswith("public, max-age=") and len(age) < len(DAY) for age in ages)


@pytest.mark.parametrize("headers", [{"authorization": "Bearer x"}, {"cookie": "a=b"}])
async def test_response_to_a_request_with_credentials_is_private(
    ask: Caller, headers: Mapping[str, str]
) -> None:  # TRAPS 42
    made = await ask("PUT", A, CLOSED, b"")
    for _ in range(4):
        assert cache_control(await ask("GET", after(made))) == DAY
        assert cache_control(await ask("GET", after(made), headers)) == "private, max-age=86400"


@pytest.mark.parametrize("native", [False, True], ids=["asgi", "native"])
async def test_shared_cache_age_lets_shared_caches_keep_growing_pages(native: bool) -> None:
    ask = Caller(create_app(shared_cache_age=7), native)
    made = await ask("PUT", A, TEXT)
    for body in (b"", b"x"):
        if body:
            await ask("POST", A, TEXT, body)
        for url in (after(made), A):
            for _ in range(4):
                page = await ask("GET", url)
                assert cache_control(page) == "public, max-age=0, s-maxage=7, must-revalidate"
                page = await ask("GET", url, {"authorization": "Bearer x"})
                assert cache_control(page) == "no-cache"
    assert cache_control(await ask("GET", f"{A}?offset=now")) == "no-store"
    assert cache_control(await ask("HEAD", A)) == "no-store"


@pytest.mark.parametrize(
    ("age", "error"),
    [
        (-1, ValueError),
        (2**31, ValueError),
        (1.5, TypeError),
        (True, TypeError),
        ("5", TypeError),
    ],
)
def test_invalid_shared_cache_age_is_refused(age: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="shared_cache_age"):
        create_app(shared_cache_age=age)  # type: ignore[arg-type]  # wrong types on purpose
