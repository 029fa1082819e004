"""Live reads through each proxy. No proxy may delay events, and every response must end properly."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.http.certificates import Certificate
from tests.process import ServerProcess, launch
from tests.proxies.conftest import WITHIN
from tests.proxies.running import Place, running

AT_ONCE = 0.1  # seconds that the quickest of a few events may take to arrive, because no proxy may delay events
KINDS_OF_DATA = ("text/plain", "application/json", "application/octet-stream")
#: Sizes of the stream before it is read, because proxies decide by the first bytes how to handle a response.
SIZES = (0, 1, 600, 60_000)


def create(client: httpx.Client, base: str, content_type: str, size: int = 0) -> str:
    """Creates a stream with `size` bytes and returns its URL."""
    url = f"{base}/v1/stream/{uuid4()}"
    body = b"1" * size
    client.put(url, headers={"content-type": content_type}, content=body).raise_for_status()
    return url


def append(client: httpx.Client, url: str, content_type: str) -> None:
    """Appends one byte to a stream."""
    client.post(url, headers={"content-type": content_type}, content=b"2").raise_for_status()


@contextmanager
def following(client: httpx.Client, url: str) -> Iterator[Iterator[str]]:
    """Follows a stream over SSE. Yields the events in texts that each end with a control event."""
    with client.stream("GET", f"{url}?offset=-1&live=sse") as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        yield events(response.iter_text())


def events(texts: Iterator[str]) -> Iterator[str]:
    """Yields the events of an event stream in texts that each end with a control event."""
    got = ""
    for text in texts:
        got += text
        while "event: control" in got and "\n\n" in got[got.index("event: control") :]:
            end = got.index("\n\n", got.index("event: control")) + 2
            yield got[:end]
            got = got[end:]
    assert got.strip() == ""


def until_up_to_date(coming: Iterator[str]) -> str:
    """Returns the events up to the control event that says the reader is up to date."""
    got = next(coming)
    while '"upToDate":true' not in got:
        got += next(coming)
    return got


@pytest.mark.parametrize("content_type", KINDS_OF_DATA)
@pytest.mark.parametrize("size", SIZES)
def test_events_arrive_through_the_proxy_within_a_second(
    client: httpx.Client, base: str, content_type: str, size: int
) -> None:
    """The client's timeout of one second applies to each wait."""
    url = create(client, base, content_type, size)
    with httpx.Client(verify=False) as writer, following(client, url) as coming:
        first = until_up_to_date(coming)
        assert ("event: data" in first) == (size > 0)
        took = []
        for _ in range(5):
            began = time.perf_counter()
            append(writer, url, content_type)
            assert "event: data" in next(coming)
            took.append(time.perf_counter() - began)
    assert min(took) < AT_ONCE


@pytest.mark.parametrize("content_type", KINDS_OF_DATA)
def test_event_stream_from_now_begins_within_a_second(
    client: httpx.Client, base: str, content_type: str
) -> None:
    url = create(client, base, content_type, 60_000)
    with client.stream("GET", f"{url}?offset=now&live=sse") as response:
        assert "event: data" not in until_up_to_date(events(response.iter_text()))


def test_long_poll_is_woken_by_an_append_and_ends_without_one(
    client: httpx.Client, base: str
) -> None:
    url = create(client, base, "text/plain")
    offset = client.head(url).headers["stream-next-offset"]
    address = f"{url}?live=long-poll&offset="
    with ThreadPoolExecutor(1) as pool, httpx.Client(verify=False) as writer:
        for _ in range(5):
            waiting = pool.submit(client.get, address + offset)
            append(writer, url, "text/plain")
            answer = waiting.result(WITHIN)
            assert (answer.status_code, answer.text) == (200, "2")
            offset = answer.headers["stream-next-offset"]
        ended = client.get(address + offset)
        assert (ended.status_code, ended.headers["stream-next-offset"]) == (204, offset)
        assert ended.headers["stream-up-to-date"] == "true"


def test_disconnected_readers_free_their_connections(
    client: httpx.Client, base: str, server: ServerProcess
) -> None:
    url = create(client, base, "text/plain", 1)
    with ExitStack() as readers:
        followed = [readers.enter_context(following(client, url)) for _ in range(20)]
        for coming in followed:
            until_up_to_date(coming)
        held = connections(server)
        assert held >= 20
    deadline = time.monotonic() + 5
    while connections(server) > held - 20:
        assert time.monotonic() < deadline, "the server still holds readers that have left"
        time.sleep(0.01)  # the sockets of another process can only be polled


def connections(server: ServerProcess) -> int:
    """Returns the number of sockets that a server process has open."""
    found = 0
    for descriptor in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor was closed meanwhile
            found += str(descriptor.readlink()).startswith("socket:")
    return found


def test_stopping_server_ends_event_streams_cleanly(
    kind: Callable[[Place], list[str]],
    certificate: Certificate,
    tmp_path: Path,
    client: httpx.Client,
) -> None:
    """The last event is a control event, the response body ends properly, and the server exits without waiting."""
    with (
        launch("--memory") as server,
        running(kind, server.url.removeprefix("http://"), certificate, tmp_path) as proxy,
        ExitStack() as readers,
    ):
        followed = []
        for base in (proxy.http, proxy.https):
            url = create(client, base, "text/plain", 1)
            coming = readers.enter_context(following(client, url))
            until_up_to_date(coming)
            followed.append(coming)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0
        for coming in followed:
            assert all("event: data" not in rest for rest in coming)


def test_proxy_reaches_a_server_on_a_unix_socket(
    kind: Callable[[Place], list[str]],
    certificate: Certificate,
    tmp_path: Path,
    client: httpx.Client,
) -> None:
    path = str(tmp_path / "streams.sock")
    with launch("--memory", "--uds", path), running(kind, path, certificate, tmp_path) as proxy:
        for base in (proxy.http, proxy.https):
            url = f"{base}/v1/stream/a"
            made = client.put(url, headers={"content-type": "text/plain"}, content="1")
            assert made.headers["location"] == url
            with following(client, url) as coming:
                assert "data:1" in until_up_to_date(coming)
            client.delete(url).raise_for_status()
