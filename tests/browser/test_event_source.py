"""The EventSource of the browser, which reconnects by itself with `Last-Event-ID`."""

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Request

from tests.browser.conftest import new_stream
from tests.http import certificates
from tests.process import ServerProcess, launch

JSON = {"content-type": "application/json"}
CLOSE = {"stream-closed": "true"}


def append(url: str, values: range) -> None:
    """Appends values one by one."""
    with httpx.Client(verify=False, headers=JSON) as client:
        for value in values:
            client.post(url, content=str(value)).raise_for_status()


def follow(page: Page, url: str) -> None:
    """Follows a stream from its start in the page."""
    page.evaluate("url => { window.followed = follow(url) }", url + "?offset=-1&live=sse")


def until(page: Page, condition: str) -> Any:
    """Waits until a condition on the follower `f` holds, and returns the values that the follower has received."""
    return page.evaluate(f"() => until(followed, f => {condition}).then(() => followed.values)")


@pytest.mark.parametrize(
    ("scheme", "stop", "down"),
    [
        ("http", signal.SIGTERM, False),
        ("http", signal.SIGKILL, False),
        ("http", signal.SIGKILL, True),
        ("https", signal.SIGTERM, False),
        ("https", signal.SIGKILL, False),
    ],
)
def test_event_source_gets_each_value_once_across_a_server_restart(
    page: Page, tmp_path: Path, scheme: str, stop: signal.Signals, down: bool
) -> None:
    """By default the server is back before the browser reconnects. With `down`, the browser first fails to reconnect once."""
    flags = ["--data-dir", str(tmp_path / "data")]
    if scheme == "https":
        certificate = certificates.make(tmp_path)
        flags += ["--tls-cert", certificate.chain, "--tls-key", certificate.key]
    with ExitStack() as first:
        server = first.enter_context(launch(*flags))
        url = new_stream(server.url, "[]")
        append(url, range(5))
        follow(page, url)
        assert until(page, "f.values.length >= 5") == list(range(5))
        append(url, range(5, 10))
        assert until(page, "f.values.length >= 10") == list(range(10))
        server.process.send_signal(stop)
        assert server.process.wait(10) == (0 if stop is signal.SIGTERM else -stop)
    if down:
        until(page, "f.errors >= 2")
    with launch(*flags, "--port", str(httpx.URL(server.url).port)):
        append(url, range(10, 15))
        assert until(page, "f.values.length >= 15") == list(range(15))
        append(url, range(15, 20))
        assert until(page, "f.values.length >= 20") == list(range(20))
        assert until(page, "f.upToDate") == list(range(20))
        assert page.evaluate("() => followed.opened") == 2


@pytest.mark.parametrize("when", ["before", "while"])
def test_event_source_reconnects_once_after_its_stream_is_closed(
    page: Page, server: ServerProcess, when: str
) -> None:
    """An EventSource reconnects after every response. Status 204 tells it to stop."""
    url = new_stream(server.url, "[]")
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))
    append(url, range(3))
    if when == "before":
        httpx.post(url, headers=CLOSE).raise_for_status()
    follow(page, url)
    assert until(page, "f.values.length >= 3") == [0, 1, 2]
    if when == "while":
        httpx.post(url, headers=CLOSE).raise_for_status()
    assert until(page, "f.closed || f.opened > 2") == [0, 1, 2]
    assert page.evaluate("() => followed.source.readyState") == 2
    assert len(requests) == 2


def test_reconnected_event_source_gets_the_rest_of_a_closed_stream(
    page: Page, tmp_path: Path
) -> None:
    """The stream receives its last data and is closed while the follower is disconnected."""
    flags = ("--data-dir", str(tmp_path / "data"))
    with launch(*flags) as server:
        url = new_stream(server.url, "[]")
        append(url, range(3))
        follow(page, url)
        assert until(page, "f.values.length >= 3") == [0, 1, 2]
        server.process.kill()
        server.process.wait(10)
    with launch(*flags, "--port", str(httpx.URL(server.url).port)):
        httpx.post(url, headers=JSON | CLOSE, content="3").raise_for_status()
        assert until(page, "f.closed || f.opened > 3") == [0, 1, 2, 3]
        assert page.evaluate("() => followed.source.readyState") == 2


def test_event_source_of_a_deleted_stream_stops(page: Page, url: str) -> None:
    follow(page, url)
    assert until(page, "f.values.length >= 1") == [1]
    httpx.delete(url).raise_for_status()
    assert until(page, "f.closed") == [1]
