"""Live reads of protected streams with `EventSource`, which cannot send a header: with a cookie, and with a signed URL."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Response

from tests.browser import application as applications
from tests.browser.application import SIGNERS, Application, new_stream, restarted
from tests.process import launch

LONG = 600  # seconds
SHORT = 4  # seconds; the page must open its event stream before they are over


@pytest.fixture(scope="module", params=["http", "https"])
def application(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    """Runs the web server of an application."""
    with applications.running(request.param, tmp_path_factory.mktemp("application")) as running:
        yield running


@pytest.fixture
def page(tab: Page, application: Application) -> Page:
    """Returns the shared tab on a page of the application, whose user has not logged in."""
    tab.context.clear_cookies()
    tab.goto(application.origin)
    return tab


@pytest.fixture
def answers(page: Page) -> Iterator[list[Response]]:
    """Yields a list that collects the responses to event streams."""
    collected: list[Response] = []

    def collect(answer: Response) -> None:
        if "live=sse" in answer.url:
            collected.append(answer)

    page.on("response", collect)
    yield collected
    page.remove_listener("response", collect)


def follow(page: Page, url: str, offset: str = "-1", name: str = "followed") -> None:
    """Follows a stream in the page, with cookies unless the URL is signed. The page knows the follower by a name."""
    signed = "?" in url
    url += f"{'&' if signed else '?'}offset={offset}&live=sse"
    script = "([name, url, options]) => { window[name] = follow(url, options) }"
    page.evaluate(script, [name, url, {"withCredentials": not signed}])


def until(page: Page, condition: str, name: str = "followed") -> Any:
    """Waits until a condition on a follower `f` holds, and returns the values that the follower has received."""
    script = f"name => until(window[name], f => {condition}).then(() => window[name].values)"
    return page.evaluate(script, name)


def statuses(answers: list[Response], url: str) -> list[int]:
    """Returns the statuses of the responses to requests for a URL."""
    return [answer.status for answer in answers if answer.url.startswith(url)]


def give_access(application: Application, page: Page, url: str, way: str, seconds: int) -> str:
    """Lets a page read a stream for some seconds, with a cookie or a signed URL. Returns the URL for the page."""
    if way == "cookie":
        application.log_in(page, seconds)
        return url
    return SIGNERS[way](url, application.token, seconds)


@pytest.mark.parametrize("way", ["cookie", *SIGNERS])
def test_event_source_follows_a_protected_stream_across_a_restart(
    application: Application, page: Page, answers: list[Response], tmp_path: Path, way: str
) -> None:
    """A stop ends the event stream properly over HTTP, and a kill cuts it over HTTPS."""
    stop = signal.SIGTERM if application.host.scheme == "http" else signal.SIGKILL
    data = ("--data-dir", str(tmp_path / "data"))
    with ExitStack() as first:
        server = first.enter_context(launch(*application.flags, *data))
        stream = new_stream(application, server)
        stream.append(range(5))
        follow(page, stream.url)
        assert until(page, "f.closed || f.values.length > 0") == []
        assert statuses(answers, stream.url) == [401]
        answers.clear()

        follow(page, give_access(application, page, stream.url, way, LONG))
        assert until(page, "f.values.length >= 5") == list(range(5))
        stream.append(range(5, 10))
        assert until(page, "f.values.length >= 10") == list(range(10))
        server.process.send_signal(stop)
        assert server.process.wait(10) == (0 if stop is signal.SIGTERM else -stop)
    with restarted(application, server, *data):
        stream.append(range(10, 15))
        assert until(page, "f.values.length >= 15") == list(range(15))
        stream.append(range(15, 20))
        assert until(page, "f.values.length >= 20 && f.upToDate") == list(range(20))
        assert page.evaluate("() => followed.opened") == 2
    assert statuses(answers, stream.url) == [200, 200]
    protocol = "HTTP/2.0" if application.host.scheme == "https" else "HTTP/1.1"
    for answer in answers:
        assert answer.http_version() == protocol
        assert ("cookie" in answer.request.all_headers()) == (way == "cookie")
        assert answer.headers["cache-control"].startswith("private, no-store")


@pytest.mark.parametrize("way", ["cookie", "program"])
def test_event_source_stops_after_its_token_has_expired(
    application: Application, page: Page, answers: list[Response], way: str
) -> None:
    """A second event stream, which may last longer, goes on. With a new token, the page continues after the last event."""
    sign = SIGNERS["program"]
    with launch("--memory", *application.flags) as server:
        stream = new_stream(application, server, "[1]")
        lasting = new_stream(application, server, "[1]")
        begun = int(time.time())
        follow(page, give_access(application, page, stream.url, way, SHORT))
        assert until(page, "f.values.length >= 1") == [1]
        follow(page, sign(lasting.url, application.token, LONG), name="lasting")
        assert until(page, "f.values.length >= 1", "lasting") == [1]
        assert page.evaluate("() => followed.errors") == 0

        assert until(page, "f.errors >= 1") == [1]
        assert time.time() >= begun + SHORT
        for each in (stream, lasting):
            each.append(range(2, 3))
        assert until(page, "f.closed || f.values.length > 1") == [1]
        assert page.evaluate("() => followed.source.readyState === EventSource.CLOSED")
        assert statuses(answers, stream.url) == [200, 401]
        assert until(page, "f.values.length >= 2", "lasting") == [1, 2]
        assert statuses(answers, lasting.url) == [200]

        last = page.evaluate("() => followed.last")
        follow(page, sign(stream.url, application.token, LONG), last)
        assert until(page, "f.values.length >= 1") == [2]
        page.evaluate("() => { followed.source.close(); lasting.source.close() }")
