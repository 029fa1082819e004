"""Pages of strangers and a server that everyone on this machine may use: the page can rebind its name, or call the server by its address.

With DNS rebinding, the name of the stranger suddenly means this machine, so that page and streams are of the same origin.

The page comes from the stranger's web server. Then that web server ends, and a server of streams takes over its address and port, which to the
browser is the same as if the name had changed its address. CORS does not apply to requests within one origin.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Page

from tests.browser.application import STRANGER
from tests.browser.conftest import new_stream
from tests.browser.host import hosting
from tests.browser.test_strangers import SUBMIT
from tests.process import ServerProcess, serve

PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
#: Shows a stream as an image, and returns the width of the image, or 0 if the browser refuses it.
EMBED = """(src) => new Promise((resolve) => {
    const image = new Image()
    image.onload = image.onerror = () => resolve(image.naturalWidth)
    image.src = src
})"""
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


#: Tries everything that a page of another origin can: requests with CORS, and those that a browser sends without asking first.
REACH = """async ([json, text]) => {
    const headers = { "content-type": "application/json" }, body = "appended", mode = "no-cors"
    const outcome = { read: await attempt(json) }
    const followed = follow(json + "?offset=-1&live=sse")
    await until(followed, (f) => f.values.length > 0 || f.closed)
    followed.source.close()
    outcome.events = followed.values
    outcome.create = await attempt(json + "-made", { method: "PUT", headers })
    outcome.append = await attempt(json, { method: "POST", headers, body: "2" })
    outcome.simple = await attempt(text, { method: "POST", body })
    await attempt(text, { method: "POST", mode, body })
    outcome.delete = await attempt(json + "-made", { method: "DELETE" })
    return outcome
}"""
CALLS = ("read", "create", "append", "simple", "delete")


@dataclass
class Reached:
    """What a page has reached.

    Attributes:
        outcome: The results of the script `REACH`.
        json: The content of the stream of JSON.
        text: The content of the stream of text.
        made: The status of a read of the stream that the script tries to create.
    """

    outcome: dict[str, Any]
    json: list[int]
    text: str
    made: int


def reach(tab: Page, name: str, *flags: str) -> Reached:
    """Opens a page at another port under the name of a host. It calls the server by its address, and then submits a form."""
    with hosting() as other, serve("--memory", *flags) as server:
        url, text = new_stream(server.url), f"{server.url}/v1/stream/{uuid4()}"
        httpx.put(text, headers={"content-type": "text/plain"}).raise_for_status()
        tab.goto(other.origin_at(name))
        outcome: dict[str, Any] = tab.evaluate(REACH, [url, text])
        with tab.expect_response(text):
            tab.evaluate(SUBMIT, text)
        made = httpx.get(f"{url}-made").status_code
        return Reached(outcome, httpx.get(url).json(), httpx.get(text).text, made)


@pytest.mark.parametrize(
    "flags", [(), ("--cors-origin", "none"), ("--cors-origin", "https://app.example")]
)
def test_page_of_a_stranger_cannot_use_a_server_on_loopback(
    tab: Page, flags: tuple[str, ...]
) -> None:
    reached = reach(tab, STRANGER, *flags)
    assert reached == Reached({**dict.fromkeys(CALLS, "refused"), "events": []}, [1], "", 404)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("localhost", ()),
        ("127.0.0.1", ()),
        (STRANGER, ("--allowed-host", STRANGER)),
        (STRANGER, ("--cors-origin", "*")),
    ],
)
def test_page_of_this_machine_or_of_an_allowed_origin_uses_the_server(
    tab: Page, name: str, flags: tuple[str, ...]
) -> None:
    """This shows that only the origin is the reason for the refusals in the test above."""
    reached = reach(tab, name, *flags)
    text = 'appendedappended["sent="]\r\n'
    assert reached == Reached({**dict.fromkeys(CALLS, "allowed"), "events": [1]}, [1, 2], text, 404)


@pytest.mark.parametrize(("name", "width"), [(STRANGER, 0), ("localhost", 9)])
def test_page_of_the_same_host_embeds_a_stream_and_a_stranger_does_not(
    tab: Page, name: str, width: int
) -> None:
    with hosting() as other, serve("--memory") as server:
        url = f"{server.url}/v1/stream/{uuid4()}"
        httpx.put(url, content=PICTURE, headers={"content-type": "image/svg+xml"})
        tab.goto(other.origin_at(name))
        assert tab.evaluate(EMBED, url.replace("127.0.0.1", "localhost")) == width
