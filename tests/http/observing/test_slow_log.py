"""Tests of the log of slow requests."""

import time
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server import FileBackedStreamStore, create_app
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.observing.observer import Observer, Report, Waits
from durable_streams_server.http.observing.routes import APPEND, LONG_POLL, SSE
from durable_streams_server.http.observing.slow_log import FIELDS, SlowLog
from durable_streams_server.http.observing.watchers import watch
from durable_streams_server.http.request import Request
from durable_streams_server.storage.files.system_file import SystemFile
from durable_streams_server.storage.slow_work import COMMIT, SlowWork
from tests.http import asgi_driver
from tests.http.asgi_driver import Exchange
from tests.http.observing.reports import PEER, Clock, Recorder
from tests.http.socket_driver import Client, HeldStore, post, run_turns, until
from tests.http.socket_driver import request as octets_of

A = "/v1/stream/a"
REQUEST = Request("POST", b"/v1/stream/a", b"token=hush", {})


class World:
    """A log of requests that take more than a second, with a clock that the test sets."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.clock = Clock()
        self.work = SlowWork(self.clock)
        self.log = SlowLog(1.0, lambda: self.work, self.clock)
        self._caplog = caplog

    def finish(self, seconds: float, waits: Waits | None = None, route: int = APPEND) -> None:
        self.log.finished(Report(REQUEST, route, 204, seconds, 0, PEER, waits or Waits()))

    def records(self) -> list[Any]:
        """Returns the fields of the records since the last call."""
        found = [each.__dict__["fields"] for each in self._caplog.records]
        self._caplog.clear()
        return found


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture) -> World:
    return World(caplog)


def test_request_is_logged_only_above_the_limit(world: World) -> None:
    world.finish(1.0)
    assert world.records() == []
    world.finish(1.001)
    assert len(world.records()) == 1


def test_record_says_what_the_request_waited_for(world: World) -> None:
    # The request began at 98, so the first half second of the commit does not count.
    world.work.add(COMMIT, 97.5, 99.0)
    world.finish(2.0, Waits(body_wait=0.25, queue_wait=0.5))
    (fields,) = world.records()
    assert fields == {
        "method": "POST",
        "path": "/v1/stream/a",
        "client": PEER,
        "route": "append",
        "status": 204,
        "seconds": 2.25,
        "body_wait": 0.25,
        "queue_wait": 0.5,
        "answer_wait": 1.5,
        "meanwhile": {COMMIT: 1.0},
    }
    assert tuple(fields)[-len(FIELDS) :] == FIELDS


def test_slow_body_makes_a_request_slow(world: World) -> None:
    world.finish(0.5, Waits(body_wait=0.6))
    assert world.records()[0]["seconds"] == 1.1


@pytest.mark.parametrize("route", [LONG_POLL, SSE])
def test_live_reads_are_never_slow(world: World, route: int) -> None:
    world.finish(100, route=route)
    world.log.live_ended(world.log.live_began(REQUEST, 200, PEER), 100, 0)
    assert world.records() == []


def test_only_twenty_requests_are_logged_in_a_minute_and_the_rest_is_counted(
    world: World,
) -> None:
    for _ in range(25):
        world.finish(2)
    assert len(world.records()) == 20
    world.clock.now += 59.9
    world.finish(2)
    assert world.records() == []
    world.clock.now += 0.2
    world.finish(2)
    world.finish(2)
    first, second = world.records()
    assert first["unlogged"] == 6
    assert "unlogged" not in second


# -- what the lanes measure -------------------------------------------------------


async def test_native_lane_measures_the_wait_for_an_earlier_request() -> None:
    store, clock, recorder = HeldStore(), Clock(), Recorder()
    store.create(A, "text/plain")
    app = create_app(store=store)
    app.observer = Observer(clock)
    app.observer.watcher = recorder
    client = Client(Lane(app)).send(post(b"x") + post(b"y"))
    clock.now += 3
    store.release_append()
    clock.now += 4
    await until(lambda: len(store.held) == 1)
    store.release_append()
    await run_turns()
    first, second = recorder.waits
    assert (first.body_wait, first.queue_wait) == (0, 0)
    assert (second.body_wait, second.queue_wait) == (0, 3)
    assert len(client.answers("POST", "POST")) == 2
    client.reset()
    await app.stop()


async def test_native_lane_measures_the_wait_for_the_rest_of_a_body() -> None:
    clock, recorder = Clock(), Recorder()
    app = create_app()
    app.observer = Observer(clock)
    app.observer.watcher = recorder
    client = Client(Lane(app))
    client.send(octets_of("PUT", A, "Content-Type: text/plain"))
    octets = post(b"0123456789")
    client.send(octets[:-5])
    clock.now += 2
    client.send(octets[-5:-2])
    clock.now += 1
    client.send(octets[-2:])
    client.send(post(b"x"))
    client.reset()
    waited = [each.body_wait for each in recorder.waits]
    assert waited == [0, 3, 0]
    await app.stop()


async def test_asgi_lane_measures_the_wait_for_the_body() -> None:
    clock, recorder = Clock(), Recorder()
    app = create_app()
    app.observer = Observer(clock)
    app.observer.watcher = recorder
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    exchange = Exchange(app, "PUT", A.encode(), headers)
    exchange.feed(b"a", more=True)
    await run_turns()
    clock.now += 2
    exchange.feed(b"b")
    assert (await exchange.answer()).status == 201
    (waits,) = recorder.waits
    assert (waits.body_wait, waits.queue_wait) == (2, 0)
    assert recorder.seconds == [0]
    await app.stop()


async def test_asgi_lane_measures_the_wait_for_a_body_that_it_refuses() -> None:
    clock, recorder = Clock(), Recorder()
    app = create_app(max_body=10)
    app.observer = Observer(clock)
    app.observer.watcher = recorder
    exchange = Exchange(app, "PUT", A.encode(), [(b"content-type", b"text/plain")])
    exchange.feed(b"a" * 10, more=True)
    await run_turns()
    clock.now += 2
    exchange.feed(b"b", more=True)
    assert (await exchange.answer()).status == 413
    (waits,) = recorder.waits
    assert (waits.body_wait, waits.queue_wait) == (2, 0)
    assert recorder.seconds == [0]
    await app.stop()


async def test_append_that_waits_for_the_disk_is_logged_with_the_commit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SystemFile.write_durably

    def write_slowly(file: SystemFile, data: Any, position: int) -> None:
        time.sleep(0.2)  # as a busy disk would
        write(file, data, position)

    with FileBackedStreamStore(tmp_path / "data") as store:
        store.create(A, "text/plain")
        app = create_app(store=store)
        work = store.slow_work
        watch(app.observer, [SlowLog(0.1, lambda: work, work.clock)], names_requests=False)
        app.begin()
        monkeypatch.setattr(SystemFile, "write_durably", write_slowly)
        answer = await asgi_driver.request(app, "POST", A, {"content-type": "text/plain"}, b"x")
        assert answer.status == 204
        monkeypatch.undo()
        await app.stop()
    (record,) = [each for each in caplog.records if hasattr(each, "fields")]
    fields = record.__dict__["fields"]
    assert fields["route"] == "append"
    assert fields["answer_wait"] >= 0.2
    assert 0.15 <= fields["meanwhile"]["commit"] <= fields["answer_wait"]
