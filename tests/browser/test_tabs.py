"""Many event streams in one browser: over HTTP/2, from `serve` itself and through each proxy, and over HTTP/1.1."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, Response

from tests.browser.conftest import new_stream
from tests.browser.host import Host
from tests.http import certificates
from tests.process import ServerProcess, serve
from tests.proxies.running import KINDS, running

TABS = 8
STREAMS = 20
MOST = 6  # connections to one origin that Chromium opens over HTTP/1.1
APPEND = """async ([url, value]) => {
    const headers = { "content-type": "application/json" }
    return (await fetch(url, { method: "POST", body: JSON.stringify(value), headers })).status
}"""


@pytest.fixture(scope="module", params=["serve", *KINDS])
def front(
    request: pytest.FixtureRequest,
    server: ServerProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Yields the HTTPS URL of a server, or of a proxy in front of one."""
    directory = tmp_path_factory.mktemp("front")
    certificate = certificates.make(directory)
    with ExitStack() as stack:
        if request.param == "serve":
            tls = ("--tls-cert", certificate.chain, "--tls-key", certificate.key)
            yield stack.enter_context(serve("--memory", *tls)).url
        else:
            upstream = server.url.removeprefix("http://")
            proxy = running(KINDS[request.param], upstream, certificate, directory)
            yield stack.enter_context(proxy).https


def open_tabs(context: BrowserContext, host: Host) -> tuple[list[Page], list[Response]]:
    """Opens tabs with a page of the host. Returns the tabs, and a list that collects their responses."""
    answers: list[Response] = []
    tabs = [context.new_page() for _ in range(TABS)]
    for tab in tabs:
        tab.goto(host.origin)
        tab.on("response", lambda answer: answers.append(answer))
    return tabs, answers


def follow(tab: Page, url: str) -> None:
    """Follows a stream from its start in a tab."""
    tab.evaluate("url => { window.followed = follow(url) }", url + "?offset=-1&live=sse")


def until(tab: Page, count: int) -> list[int]:
    """Waits until a tab has received `count` values, and returns those values."""
    condition = f"f => f.values.length >= {count} && f.upToDate"
    values: list[int] = tab.evaluate(
        f"() => until(followed, {condition}).then(() => followed.values)"
    )
    return values


def test_eight_tabs_over_http_2_receive_the_appends_of_all_tabs(
    context: BrowserContext, host: Host, front: str
) -> None:
    tabs, answers = open_tabs(context, host)
    url = new_stream(front)
    for tab in tabs:
        follow(tab, url)
    assert [until(tab, 1) for tab in tabs] == [[1]] * TABS
    for value, tab in enumerate(tabs, 2):
        assert tab.evaluate(APPEND, [url, value]) == 204
    everything = list(range(1, TABS + 2))
    assert [until(tab, TABS + 1) for tab in tabs] == [everything] * TABS
    assert len(answers) >= 2 * TABS
    assert {answer.http_version() for answer in answers} == {"HTTP/2.0"}


def test_one_tab_follows_twenty_streams_and_appends_to_each(page: Page, front: str) -> None:
    urls = [new_stream(front) for _ in range(STREAMS)]
    followed = """async urls => {
        const all = urls.map((url) => follow(url + "?offset=-1&live=sse"))
        await Promise.all(all.map((followed) => until(followed, (f) => f.values.length === 1)))
        const headers = { "content-type": "application/json" }
        const append = (url, index) => fetch(url, { method: "POST", body: `${index}`, headers })
        await Promise.all(urls.map(append))
        await Promise.all(all.map((followed) => until(followed, (f) => f.values.length === 2)))
        return all.map((followed) => followed.values)
    }"""
    expected = [[1, index] for index in range(STREAMS)]
    assert page.evaluate(followed, urls) == expected


def test_event_stream_gets_events_during_large_transfers_on_its_connection(
    page: Page, front: str
) -> None:
    """The page uploads and downloads nine megabytes while it follows another stream, and receives every event."""
    followed, large = new_stream(front), new_stream(front, "[]")
    outcome = page.evaluate(
        """async ([url, large]) => {
            const headers = { "content-type": "application/json" }
            const followed = follow(url + "?offset=-1&live=sse")
            await until(followed, (f) => f.values.length === 1)
            const text = JSON.stringify("0123456789abcde ".repeat(3 << 16))
            const append = (url, body) => fetch(url, { method: "POST", body, headers })
            const uploads = [1, 2, 3].map(() => append(large, text))
            await append(url, "2")
            await until(followed, (f) => f.values.length === 2)
            const statuses = (await Promise.all(uploads)).map((answer) => answer.status)
            let offset = "-1", size = 0, upToDate = null
            while (!upToDate) {
                const answer = await fetch(`${large}?offset=${offset}`)
                for (const value of await answer.json()) size += value.length
                offset = answer.headers.get("Stream-Next-Offset")
                upToDate = answer.headers.get("Stream-Up-To-Date")
            }
            await append(url, "3")
            await until(followed, (f) => f.values.length === 3)
            return [statuses, size, followed.values]
        }""",
        [followed, large],
    )
    assert outcome == [[204, 204, 204], 9 << 20, [1, 2, 3]]


def test_seventh_tab_over_http_1_waits_until_another_closes(
    context: BrowserContext, host: Host, url: str
) -> None:
    """Chromium opens six connections to one origin. The seventh reader starts once a connection is free."""
    tabs, answers = open_tabs(context, host)
    for tab in tabs[:MOST]:
        follow(tab, url)
    assert [until(tab, 1) for tab in tabs[:MOST]] == [[1]] * MOST
    follow(tabs[MOST], url)
    httpx.post(url, headers={"content-type": "application/json"}, content="2").raise_for_status()
    assert [until(tab, 2) for tab in tabs[:MOST]] == [[1, 2]] * MOST
    assert len(answers) == MOST
    assert {answer.http_version() for answer in answers} == {"HTTP/1.1"}
    tabs[0].close()
    assert until(tabs[MOST], 2) == [1, 2]
