"""A page of a stranger whose name suddenly means this machine (DNS rebinding), so that page and streams are of the same origin.

The page comes from the stranger's web server. Then that ends, and a server of streams takes over its address and port, which to the
browser is the same as if the name had changed its address. CORS does not apply to requests within one origin.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Page

from tests.browser.application import STRANGER
from tests.browser.conftest import new_stream
from tests.browser.host import hosting
from tests.process import ServerProcess, serve

REFUSED = [421, "UNKNOWN_HOST"]

#: Uses a stream, and tries to create a second one, in every way that a page can.
USE = """async ([path, made]) => {
    const headers = { "content-type": "application/json" }
    const followed = follow(path + "?offset=-1&live=sse")
    await until(followed, (f) => f.values.length > 0 || f.closed)
    followed.source.close()
    const outcome = { events: followed.values }
    const call = async (name, url, options) => {
        const response = await fetch(url, { headers, ...options })
        const text = await response.text()
        outcome[name] = [response.status, text.match(/UNKNOWN_HOST/)?.[0] ?? text]
    }
    await call("GET", path)
    await call("long-poll", path + "?offset=-1&live=long-poll")
    await call("POST", path, { method: "POST", body: "2" })
    await call("simple POST", path, { method: "POST", body: "3", headers: {} })
    await call("PUT", made, { method: "PUT" })
    await call("OPTIONS", path, { method: "OPTIONS" })
    outcome.HEAD = (await fetch(path, { method: "HEAD" })).status
    await call("DELETE", path, { method: "DELETE" })
    return outcome
}"""


@contextmanager
def rebound(page: Page, *flags: str) -> Iterator[ServerProcess]:
    """Opens a page of a stranger, and runs a server of streams to which the name of the stranger then belongs."""
    with hosting() as stranger:
        page.goto(stranger.origin_at(STRANGER))
    with serve("--memory", "--port", str(stranger.port), *flags) as server:
        assert page.evaluate("() => location.port") == str(urlsplit(server.url).port)
        yield server


@pytest.mark.parametrize("flags", [(), ("--cors-origin", "none")])
def test_rebound_page_reaches_nothing(tab: Page, flags: tuple[str, ...]) -> None:
    with rebound(tab, *flags) as server:
        url, made = new_stream(server.url), f"/v1/stream/{uuid4()}"
        outcome = tab.evaluate(USE, [urlsplit(url).path, made])
        assert outcome.pop("events") == []
        assert outcome.pop("HEAD") == 421
        assert len(outcome) == 7
        assert all(answer == REFUSED for answer in outcome.values()), outcome
        assert httpx.get(url).json() == [1]
        assert httpx.head(server.url + made).status_code == 404


def test_rebound_page_uses_streams_if_its_name_is_allowed(tab: Page) -> None:
    """This shows that the requests of the test above fail for their host, and for no other reason."""
    with rebound(tab, "--allowed-host", STRANGER, "--cors-origin", "none") as server:
        url, made = new_stream(server.url), f"/v1/stream/{uuid4()}"
        outcome: dict[str, Any] = tab.evaluate(USE, [urlsplit(url).path, made])
        assert outcome == {
            "events": [1],
            "GET": [200, "[1]"],
            "long-poll": [200, "[1]"],
            "POST": [204, ""],
            "simple POST": [409, outcome["simple POST"][1]],  # text in a stream of JSON
            "PUT": [201, ""],
            "OPTIONS": [204, ""],
            "HEAD": 200,
            "DELETE": [204, ""],
        }
        assert httpx.head(server.url + made).status_code == 200
        assert httpx.head(url).status_code == 404


@pytest.mark.parametrize(
    ("flags", "answer"), [((), "allowed"), (("--cors-origin", "none"), "refused")]
)
def test_page_that_calls_the_server_by_its_address_is_subject_to_cors_only(
    tab: Page, flags: tuple[str, ...], answer: str
) -> None:
    """This shows what the check of hosts does not do. Without access control, no setting stops an append of plain text."""
    with hosting() as stranger, serve("--memory", *flags) as server:
        url, text = new_stream(server.url), f"{server.url}/v1/stream/{uuid4()}"
        httpx.put(text, headers={"content-type": "text/plain"}).raise_for_status()
        tab.goto(stranger.origin_at(STRANGER))
        assert tab.evaluate("url => attempt(url)", url) == answer
        assert tab.evaluate("url => attempt(url + '-made', { method: 'PUT' })", url) == answer
        assert httpx.head(f"{url}-made").status_code == (200 if answer == "allowed" else 404)
        append = "url => attempt(url, { method: 'POST', body: 'appended' })"
        assert tab.evaluate(append, text) == answer
        assert httpx.get(text).text == "appended"
