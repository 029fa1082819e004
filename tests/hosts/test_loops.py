"""One application on several event loops, because test suites start the application of a module again and again."""

import asyncio
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from durable_streams_server import (
    DurableStreamsApp,
    FileBackedStreamStore,
    StreamLifecycleEvent,
    StreamStore,
    create_app,
)
from tests.http.socket_driver import until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette warns that its test client should not use httpx
    from starlette.testclient import TestClient

TEXT = {"content-type": "text/plain"}


@pytest.fixture(params=["memory", "files"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[StreamStore | FileBackedStreamStore]:
    if request.param == "memory":
        yield StreamStore()
    else:
        with FileBackedStreamStore(tmp_path / "data") as store:
            yield store


@pytest.fixture
def app(store: Any) -> DurableStreamsApp:
    return create_app(store=store)


async def use(app: Any, text: str, path: str = "/a") -> str:
    """Appends `text` while a long-poll waits for it, and returns the content of the stream."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://h") as http:
        assert (await http.put(path, headers=TEXT)).status_code in (200, 201)
        poll = asyncio.create_task(http.get(f"{path}?offset=now&live=long-poll"))
        await until(lambda: len(app.engine.tails) == 1)
        assert (await http.post(path, headers=TEXT, content=text)).status_code == 204
        waited = await asyncio.wait_for(poll, 5)
        assert waited.text == text
        return (await http.get(path)).text


def test_application_runs_on_one_event_loop_after_another(app: DurableStreamsApp) -> None:
    assert asyncio.run(use(app, "1")) == "1"
    assert asyncio.run(use(app, "2")) == "12"


def test_application_moves_to_another_loop_after_its_loop_closes_without_shutdown(
    app: DurableStreamsApp,
) -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    assert first.run_until_complete(use(app, "1")) == "1"
    assert second.run_until_complete(use(app, "2")) == "12"  # the first loop may run again later
    assert first.run_until_complete(use(app, "3")) == "123"
    first.close()
    assert second.run_until_complete(use(app, "4")) == "1234"
    second.run_until_complete(app.stop())
    second.close()


def test_test_client_with_lifespan_can_be_used_twice(app: DurableStreamsApp) -> None:
    for number in range(2):
        with TestClient(app) as http:
            assert http.put("/a", headers=TEXT).status_code == (200 if number else 201)
            assert http.post("/a", headers=TEXT, content="x").status_code == 204
    with TestClient(app) as http:
        assert http.get("/a").text == "xx"


def test_test_client_without_lifespan_uses_new_loop_for_each_request(
    app: DurableStreamsApp,
) -> None:
    http = TestClient(app)
    assert http.put("/a", headers=TEXT).status_code == 201
    assert http.post("/a", headers=TEXT, content="x").status_code == 204
    assert http.get("/a").text == "x"


def test_mounted_application_can_be_started_twice(app: DurableStreamsApp) -> None:
    host = FastAPI()
    host.mount("/streams", app)
    for expected in ("x", "xx"):
        with TestClient(host) as http:
            http.put("/streams/a", headers=TEXT)
            assert http.post("/streams/a", headers=TEXT, content="x").status_code == 204
            assert http.get("/streams/a").text == expected


async def test_stopped_application_starts_again_with_lifespan(app: DurableStreamsApp) -> None:
    assert await use(app, "1") == "1"
    await app.stop()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://h") as http:
        refused = await http.get("/a")
        assert refused.json()["error"]["code"] == "SERVER_STOPPING"
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    said: list[str] = []

    async def receive() -> dict[str, str]:
        return next(messages)

    async def send(message: Any) -> None:
        said.append(message["type"])
        if message["type"] == "lifespan.startup.complete":
            assert await use(app, "2") == "12"

    await app({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("lifespan", [False, True])
def test_application_used_on_two_running_loops_raises_runtime_error(lifespan: bool) -> None:
    app = create_app()
    host = FastAPI()
    host.mount("/streams", app)
    served: Any = app if lifespan else host
    path = "/a" if lifespan else "/streams/a"
    with TestClient(served) as http:
        assert http.put(path, headers=TEXT).status_code == 201

        def second() -> None:
            with TestClient(served) as other:
                other.get(path)

        with pytest.raises(RuntimeError, match="one application serves one loop at a time"):
            second()
        assert http.get(path).status_code == 200  # the first loop still works


def test_hooks_run_once_per_stream_after_the_event_loop_changes() -> None:
    heard: list[str] = []

    def hook(event: StreamLifecycleEvent) -> None:
        heard.append(event.path)

    app = create_app(hooks=[hook])
    for path in ("/a", "/b"):
        asyncio.run(use(app, "x", path))
    assert heard == ["/a", "/b"]


def test_application_serves_only_one_of_two_simultaneous_threads() -> None:
    app = create_app()
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    async def get() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://h") as http:
            barrier.wait()
            try:
                await http.get("/a")
            except RuntimeError:
                outcomes.append("refused")
            else:
                outcomes.append("served")
            await asyncio.to_thread(barrier.wait)

    threads = [threading.Thread(target=lambda: asyncio.run(get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "served"]
