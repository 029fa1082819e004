"""Tests of the browser's HTTP cache. `fetch` reads pages of a stream in its default cache mode."""

import httpx
import pytest
from playwright.sync_api import Page

from tests.browser.conftest import new_stream
from tests.process import launch

JSON = {"content-type": "application/json"}


def read(page: Page, url: str) -> str:
    """Reads a stream in the page and returns the text."""
    shown = page.evaluate("url => read(url)", url)
    assert shown["status"] == 200
    return str(shown["text"])


@pytest.mark.parametrize("query", ["", "?offset=-1"])
def test_second_read_returns_appended_data(page: Page, url: str, query: str) -> None:
    assert read(page, url + query) == "[1]"
    httpx.post(url, headers=JSON, content="2").raise_for_status()
    assert read(page, url + query) == "[1,2]"
    assert read(page, url + query) == "[1,2]"  # this time the server answers 304


def test_second_read_at_the_tail_returns_appended_data(page: Page, url: str) -> None:
    tail = page.evaluate("url => read(url)", url)["next"]
    assert read(page, f"{url}?offset={tail}") == "[]"
    httpx.post(url, headers=JSON, content="2").raise_for_status()
    assert read(page, f"{url}?offset={tail}") == "[2]"


def test_web_page_reads_the_values_that_it_appended(page: Page, url: str) -> None:
    shown = page.evaluate(
        """async url => {
            const texts = []
            for (const value of [2, 3]) {
                texts.push((await read(url)).text)
                await fetch(url, { method: "POST", body: `${value}`, headers: { "content-type": "application/json" } })
            }
            return [...texts, (await read(url)).text]
        }""",
        url,
    )
    assert shown == ["[1]", "[1,2]", "[1,2,3]"]


@pytest.mark.parametrize("closed", [False, True])
def test_read_of_a_recreated_stream_returns_new_data(page: Page, url: str, closed: bool) -> None:
    if closed:
        httpx.post(url, headers={"stream-closed": "true"}).raise_for_status()
    assert read(page, url) == "[1]"
    httpx.delete(url).raise_for_status()
    assert page.evaluate("url => read(url)", url)["status"] == 404
    httpx.put(url, headers=JSON, content="[7]").raise_for_status()
    assert read(page, url) == "[7]"


def test_second_fetch_shows_that_the_stream_was_closed(page: Page, url: str) -> None:
    closed = "async url => (await fetch(url)).headers.get('Stream-Closed')"
    assert page.evaluate(closed, url) is None
    httpx.post(url, headers={"stream-closed": "true"}).raise_for_status()
    assert page.evaluate(closed, url) == "true"


def test_browser_reads_a_closed_stream_from_its_cache(page: Page) -> None:
    with launch("--memory") as server:
        url = new_stream(server.url)
        middle = page.evaluate("url => read(url)", url)["next"]
        last = {**JSON, "stream-closed": "true"}
        httpx.post(url, headers=last, content="2").raise_for_status()
        assert read(page, f"{url}?offset={middle}") == "[2]"
    assert read(page, f"{url}?offset={middle}") == "[2]"


def test_official_client_reads_appended_and_recreated_data(page: Page, url: str) -> None:
    """Without live reads, the client follows `Stream-Next-Offset` from page to page."""
    page.evaluate(
        "async () => { window.client = await import('/@durable-streams/client/dist/index.js') }"
    )
    all_values = "async url => (await client.stream({ url, live: false })).json()"
    assert page.evaluate(all_values, url) == [1]
    httpx.post(url, headers=JSON, content="2").raise_for_status()
    assert page.evaluate(all_values, url) == [1, 2]
    httpx.delete(url).raise_for_status()
    httpx.put(url, headers=JSON, content="[7]").raise_for_status()
    assert page.evaluate(all_values, url) == [7]
