"""Tests that run the benchmark loads of subscriptions for a short time, with a real server."""

import time
from urllib.parse import urlsplit

import httpx

from benchmarks.client import Connection, create, octets
from benchmarks.receiver import Receiver
from benchmarks.subscribing import ROOT, webhooks
from benchmarks.workers import prepare, work

from ..process import serve


def _port(url: str) -> int:
    """Returns the port in a URL."""
    port = urlsplit(url).port
    assert port is not None
    return port


def _events(port: int) -> int:
    """Returns the number of events on the wake stream."""
    wakes = httpx.get(f"http://127.0.0.1:{port}{ROOT}/wake/pool?offset=-1")
    return len(wakes.json())


def test_workers_end_every_wake_that_they_claim() -> None:
    with serve("--memory") as server:
        port = _port(server.url)
        prepare(port, 3)
        for _ in range(2):  # the first run must leave no wake for the second one
            before = _events(port)
            done = work(port, 3, 0.2)
            assert done.bad == 0
            assert done.ended <= _events(port) - before <= done.ended + 3


def test_webhook_receiver_counts_the_deliveries_of_each_cycle() -> None:
    with serve("--memory") as server:
        port = _port(server.url)
        with Receiver(port, 20) as receiver:
            receiver.prepare(4)
            for window in range(1, 3):
                found = receiver.cycle(0.2)
                assert found.bad == 0
                assert found.delivered >= 20
                assert receiver.count() >= 20 * window


def test_one_append_is_delivered_to_every_matching_webhook() -> None:
    with serve("--memory") as server, Receiver() as receiver:
        port = _port(server.url)
        webhooks(port, 30, receiver.urls(4), pattern="a/**")
        create(port, [f"{ROOT}/a/stream"], "text/plain")
        append = octets("POST", f"{ROOT}/a/stream", "text/plain", b"x")
        connection = Connection(port)
        assert connection.ask(append).status == 204
        connection.close()
        deadline = time.monotonic() + 10.0
        while receiver.count() < 30 and time.monotonic() < deadline:
            # The receiver runs in another process, which reports its count only when asked.
            time.sleep(0.02)
        assert receiver.count() == 30


def test_webhook_receiver_process_exits_after_its_server_stops() -> None:
    with serve("--memory") as server:
        receiver = Receiver(_port(server.url), 1)
    assert receiver.wait(5.0)
    receiver.close()
