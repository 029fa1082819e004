"""Pages of strangers in the browser of a user who has logged in. The browser sends the user's cookie with their requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser import application as applications
from tests.browser.application import (
    APPLICATION,
    COOKIE,
    SISTER,
    STRANGER,
    Application,
    Stream,
    new_stream,
)
from tests.browser.host import hosting
from tests.process import serve

LONG = 600  # seconds
PATIENCE = 15  # seconds
SECRET = "[1]"

#: Uses a stream of text, and a second one that it creates, in every way that a script can.
USE = """async (url) => {
    const credentials = "include", body = '["fetched"]', made = url + "-made"
    const outcome = { read: await attempt(url, { credentials }) }
    const followed = follow(url + "?offset=-1&live=sse", { withCredentials: true })
    await until(followed, (f) => f.values.length > 0 || f.closed)
    followed.source.close()
    outcome.events = followed.values
    outcome.poll = await attempt(url + "?offset=-1&live=long-poll", { credentials })
    outcome.blind = await (await fetch(url, { mode: "no-cors", credentials })).text()
    outcome.append = await attempt(url, { method: "POST", credentials, body })
    await fetch(url, { method: "POST", mode: "no-cors", credentials, body })
    outcome.create = await attempt(made, { method: "PUT", credentials })
    const headers = { "stream-closed": "true" }
    outcome.close = await attempt(made, { method: "POST", credentials, headers })
    outcome.delete = await attempt(made, { method: "DELETE", credentials })
    return outcome
}"""
#: Loads a stream as a script, which a page may do without CORS.
LOAD = """([src, crossOrigin]) => new Promise((resolve) => {
    const script = Object.assign(document.createElement("script"), { src, crossOrigin })
    script.onload = script.onerror = () => resolve(window.leaked ?? "nothing")
    document.head.append(script)
})"""
#: Submits a form to a stream, which a page may do without CORS. Its text is '["sent="]'.
SUBMIT = """(url) => {
    document.body.innerHTML = `<form method="post" enctype="text/plain" action="${url}"><input></form>`
    Object.assign(document.querySelector("input"), { name: '["sent', value: '"]' })
    document.forms[0].submit()
}"""


class Case(NamedTuple):
    """A page of a stranger.

    Attributes:
        scheme: The scheme of the application, the streams and the stranger.
        name: The name of the stranger's host. The port differs from that of the application and that of the streams.
        same_site: The attribute `SameSite` of the cookie. With `Strict`, the browser sends it only for pages of the same site.
    """

    scheme: str
    name: str
    same_site: str


CASES = [
    Case("http", SISTER, "Strict"),
    Case("http", APPLICATION, "Strict"),
    Case("https", SISTER, "Strict"),
    Case("https", APPLICATION, "Strict"),
    Case("https", STRANGER, "None"),
]


@dataclass
class Sent:
    """A request of the browser.

    Attributes:
        method: Its method.
        url: Its URL.
        was_sent: Whether the browser sent it. It does not if the server refuses it in the response to a preflight.
        had_cookie: Whether it had the user's cookie.
        status: The status of the response.
    """

    method: str = ""
    url: str = ""
    was_sent: bool = True
    had_cookie: bool = False
    status: int = 0


@dataclass
class Visit:
    """A page of a stranger in the browser of a user who has logged in.

    Attributes:
        page: The tab with the page.
        stream: A protected stream of text.
        script: A protected stream of JavaScript.
        requests: Requests to the streams by the browser's ids.
    """

    page: Page
    stream: Stream
    script: Stream
    requests: dict[str, Sent] = field(default_factory=dict)

    def watch(self) -> None:
        """Collects all requests. Playwright alone does not show the responses that the browser hides from the page."""
        session = self.page.context.new_cdp_session(self.page)

        def of(event: dict[str, Any]) -> Sent:
            return self.requests.setdefault(event["requestId"], Sent())

        def begin(event: dict[str, Any]) -> None:
            of(event).method = event["request"]["method"]
            of(event).url = event["request"]["url"]

        def send(event: dict[str, Any]) -> None:
            of(event).had_cookie = any(
                each["cookie"]["name"] == COOKIE and not each["blockedReasons"]
                for each in event["associatedCookies"]
            )

        def fail(event: dict[str, Any]) -> None:
            error = event.get("corsErrorStatus", {}).get("corsError", "")
            of(event).was_sent = not error.startswith("Preflight")

        def receive(event: dict[str, Any]) -> None:
            of(event).status = event["statusCode"]

        session.on("Network.requestWillBeSent", begin)
        session.on("Network.requestWillBeSentExtraInfo", send)
        session.on("Network.responseReceivedExtraInfo", receive)
        session.on("Network.loadingFailed", fail)
        session.send("Network.enable")

    def statuses(self) -> dict[str, set[int]]:
        """Returns the statuses of responses by the methods of requests. All requests except preflights had the cookie."""
        deadline = monotonic() + PATIENCE
        while not all(each.status for each in self.sent()):
            assert monotonic() < deadline, self.sent()
            self.page.wait_for_timeout(20)  # Playwright hands over events while it waits
        found: dict[str, set[int]] = {}
        for each in self.sent():
            assert each.had_cookie == (each.method != "OPTIONS"), each
            found.setdefault(each.method, set()).add(each.status)
        return found

    def sent(self) -> list[Sent]:
        """Returns the requests to the streams that the browser has sent."""
        streams = (self.stream.url, self.script.url)
        return [
            each
            for each in self.requests.values()
            if each.was_sent and each.url.startswith(streams)
        ]

    def submit(self) -> int:
        """Submits the form, and returns the status of the response."""
        with self.page.expect_response(self.stream.url) as answered:
            self.page.evaluate(SUBMIT, self.stream.url)
        return answered.value.status

    def made(self) -> int:
        """Returns the status of a read of the stream that the script tries to create."""
        headers = {"authorization": f"Bearer {self.stream.token}"}
        url = f"{self.stream.address}-made"
        return httpx.get(url, headers=headers, verify=False).status_code


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Application]]:
    """Runs the web servers of two applications, and yields the applications by their schemes."""
    folder = tmp_path_factory.mktemp
    with (
        applications.running("http", folder("http")) as over_http,
        applications.running("https", folder("https")) as over_https,
    ):
        yield {"http": over_http, "https": over_https}


@contextmanager
def visit(
    application: Application, case: Case, profile: BrowserContext, *allowed: str
) -> Iterator[Visit]:
    """Lets a user log in, and opens the page of a stranger.

    Args:
        application: The application.
        case: Where the page comes from.
        profile: The profile of the user.
        allowed: Further origins that the server of the streams allows. `stranger` is the origin of the page.
    """
    with hosting(application.certificate) as stranger:
        origins = {"stranger": stranger.origin_at(case.name)}
        flags = [f"--cors-origin={origins.get(each, each)}" for each in allowed]
        with serve("--memory", *application.flags, *flags) as server:
            stream = new_stream(application, server, SECRET, "text/plain")
            script = new_stream(application, server, 'leaked = "secret"', "text/javascript")
            profile.clear_cookies()
            tab = profile.new_page()
            application.log_in(tab, LONG, case.same_site)
            tab.goto(origins["stranger"])
            visited = Visit(tab, stream, script)
            visited.watch()
            yield visited
            tab.close()


@pytest.mark.parametrize("allowed", [(), ("*",)], ids=["named", "any"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_page_of_a_stranger_neither_reads_nor_writes(
    running: dict[str, Application],
    permissive: BrowserContext,
    case: Case,
    allowed: tuple[str, ...],
) -> None:
    with visit(running[case.scheme], case, permissive, *allowed) as visited:
        outcome = visited.page.evaluate(USE, visited.stream.url)
        refused = dict.fromkeys(("read", "poll", "append", "create", "close", "delete"), "refused")
        assert outcome == {**refused, "events": [], "blind": ""}
        assert visited.submit() == 401
        # Over HTTP a request without `Origin` could come from any page, so the cookie counts. The browser hides the response.
        blind = {200} if case.scheme == "http" else set()
        assert visited.statuses() == {"GET": {401} | blind, "POST": {401}, "OPTIONS": {204}}
        assert visited.stream.ask("GET").text == SECRET
        assert visited.made() == 404


@pytest.mark.parametrize("case", CASES, ids=str)
def test_page_of_a_named_origin_reads_and_writes(
    running: dict[str, Application], permissive: BrowserContext, case: Case
) -> None:
    """This shows that only the origin is the reason for the refusals in the test above."""
    with visit(running[case.scheme], case, permissive, "stranger") as visited:
        outcome = visited.page.evaluate(USE, visited.stream.url)
        allowed = dict.fromkeys(("read", "poll", "append", "create", "close", "delete"), "allowed")
        assert outcome == {**allowed, "events": [1], "blind": ""}
        assert visited.submit() == 204
        written = '["fetched"]["fetched"]["sent="]\r\n'
        assert visited.stream.ask("GET").text == SECRET + written


@pytest.mark.parametrize("name", [SISTER, STRANGER])
def test_page_of_a_stranger_cannot_load_a_protected_stream_as_a_script(
    running: dict[str, Application], permissive: BrowserContext, name: str
) -> None:
    """The page of the named application can, if it asks with CORS."""
    application = running["https"]
    same_site = "Strict" if name == SISTER else "None"
    with visit(application, Case("https", name, same_site), permissive) as visited:
        assert visited.page.evaluate(LOAD, [visited.script.url, None]) == "nothing"
        assert visited.page.evaluate(LOAD, [visited.script.url, "use-credentials"]) == "nothing"
        assert visited.statuses() == {"GET": {401}}
        visited.page.goto(application.origin)
        assert visited.page.evaluate(LOAD, [visited.script.url, "use-credentials"]) == "secret"
