"""CORS in a browser: credentials, and request headers that the protocol does not define."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from tests.browser.conftest import new_stream
from tests.browser.host import Host
from tests.process import serve

JSON = {"content-type": "application/json"}
OWN = {  # headers that tracing tools, older libraries and applications add
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "baggage": "a=1",
    "x-requested-with": "XMLHttpRequest",
    "x-my-app": "1",
}
CALLS: list[tuple[str, dict[str, str], str | None]] = [
    ("GET", {}, None),
    ("HEAD", {}, None),
    ("POST", JSON, "2"),
    ("PUT", JSON, None),
    ("DELETE", {}, None),
]


@pytest.fixture(scope="module")
def strict(host: Host) -> Iterator[str]:
    """Runs a server that allows the origin of the host's pages, and yields its URL."""
    listed = ("--cors-origin", "https://app.example", "--cors-origin", host.origin)
    with serve("--memory", *listed) as server:
        yield server.url


@pytest.fixture
def guarded(strict: str) -> str:
    """Returns the URL of a new stream on the strict server. The stream holds the value 1."""
    return new_stream(strict)


@pytest.fixture
def stranger(page: Page, host: Host) -> Page:
    """Returns a page from an origin that the server does not list."""
    page.goto(host.other_origin)
    return page


def attempt(page: Page, url: str, **options: Any) -> str:
    """Fetches a URL in the page, and returns `allowed`, or `refused` if the browser hides the response."""
    return str(page.evaluate("([url, options]) => attempt(url, options)", [url, options]))


def call(
    page: Page, url: str, method: str, headers: dict[str, str], body: str | None, **more: Any
) -> str:
    """Sends a request from the page, and returns whether it was `allowed` or `refused`."""
    content = {} if body is None else {"body": body}
    return attempt(page, url, method=method, headers=headers, **content, **more)


def follow(page: Page, url: str, with_credentials: bool) -> Any:
    """Follows a stream until its first value arrives or the browser refuses it, and returns the values."""
    return page.evaluate(
        """async ([url, options]) => {
            const followed = follow(url, options)
            await until(followed, f => f.values.length > 0 || f.closed)
            followed.source.close()
            return followed.values
        }""",
        [url + "?offset=-1&live=sse", {"withCredentials": with_credentials}],
    )


def test_listed_origin_sends_its_cookie_with_fetch(page: Page, guarded: str) -> None:
    page.context.add_cookies([{"name": "session", "value": "s", "url": guarded}])
    for method, headers, body in CALLS:
        with page.expect_response(guarded) as answered:
            answer = call(page, guarded, method, headers, body, credentials="include")
            assert answer == "allowed", method
        assert answered.value.request.method == method
        assert answered.value.request.all_headers()["cookie"] == "session=s"


def test_listed_origin_sends_its_cookie_with_event_source(page: Page, guarded: str) -> None:
    page.context.add_cookies([{"name": "session", "value": "s", "url": guarded}])
    with page.expect_response(lambda response: "live=sse" in response.url) as answered:
        assert follow(page, guarded, with_credentials=True) == [1]
    assert answered.value.request.all_headers()["cookie"] == "session=s"


@pytest.mark.parametrize("credentials", ["omit", "include"])
def test_unlisted_origin_can_neither_read_nor_write(
    stranger: Page, guarded: str, credentials: str
) -> None:
    for method, headers, _ in CALLS:
        if method != "POST":
            options = {"method": method, "headers": headers, "credentials": credentials}
            assert attempt(stranger, guarded, **options) == "refused", method
    for extra in (JSON, {"content-type": "text/plain", "x-app": "1"}):
        options = {"method": "POST", "headers": extra, "body": "2", "credentials": credentials}
        assert attempt(stranger, guarded, **options) == "refused"
    assert follow(stranger, guarded, credentials == "include") == []
    assert httpx.get(guarded).json() == [1]


def test_credentials_are_refused_if_every_origin_is_allowed(page: Page, url: str) -> None:
    """With `*` every page may read streams, so none may use the user's cookies."""
    assert attempt(page, url, credentials="include") == "refused"
    assert follow(page, url, with_credentials=True) == []
    assert attempt(page, url, credentials="omit") == "allowed"
    assert follow(page, url, with_credentials=False) == [1]


@pytest.mark.parametrize("stream", ["url", "guarded"])
def test_allowed_origin_may_send_custom_headers(
    page: Page, stream: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(stream)
    for name, value in OWN.items():
        for method, headers, body in CALLS:
            answer = call(page, url, method, headers | {name: value}, body)
            assert answer == "allowed", (name, method)
