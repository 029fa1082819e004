"""Lifecycle hooks and the registry report each creation and each deletion once."""

import asyncio
import json

import pytest

from durable_streams_server import StreamStore, create_registry_hooks
from durable_streams_server.errors import BadRequest, MethodNotAllowed
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.hooks import Hooks, RegistryHook, StreamLifecycleEvent
from tests.requests import SECOND, append, create, fork_of
from tests.streams.engines import Bench, next_turn, read


def test_hook_receives_created_and_deleted_events() -> None:
    told: list[StreamLifecycleEvent] = []
    bench = Bench(hooks=Hooks([told.append]))
    now = bench.clock.now / SECOND
    bench.do(create("/a", "text/plain"), append("/a", b"x", "text/plain"), Delete("/a"))
    assert told == [
        StreamLifecycleEvent("created", "/a", "text/plain", now),
        StreamLifecycleEvent("deleted", "/a", None, now),
    ]


def test_soft_deleted_source_is_reported_deleted_once() -> None:
    told: list[tuple[str, str]] = []
    bench = Bench(hooks=Hooks([lambda event: told.append((event.type, event.path))]))
    bench.do(create("/a"), create("/b", None, fork=fork_of("/a")), Delete("/a"), Delete("/b"))
    assert told == [("created", "/a"), ("created", "/b"), ("deleted", "/a"), ("deleted", "/b")]


async def test_stop_waits_for_asynchronous_hook() -> None:
    told: list[str] = []
    released = asyncio.Event()

    async def slow(event: StreamLifecycleEvent) -> None:
        await released.wait()
        told.append(event.type)

    bench = Bench(hooks=Hooks([slow]))
    bench.do(create("/a"))
    stopping = asyncio.create_task(bench.engine.stop())
    for _ in range(10):
        await next_turn()
    assert (told, stopping.done()) == ([], False)
    released.set()
    await stopping
    assert told == ["created"]


async def test_failing_hook_is_logged_and_other_hooks_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def wrong(_: StreamLifecycleEvent) -> None:
        raise RuntimeError("a hook's own fault")

    async def wrong_later(_: StreamLifecycleEvent) -> None:
        raise RuntimeError("a later fault")

    told: list[str] = []
    bench = Bench(hooks=Hooks([wrong, wrong_later, lambda event: told.append(event.type)]))
    bench.do(create("/a"))
    await bench.engine.stop()
    assert told == ["created"]
    assert "a hook's own fault" in caplog.text
    assert "a later fault" in caplog.text


def test_registry_does_not_list_itself() -> None:
    bench = Bench(hooks=Hooks(create_registry_hooks()))
    bench.do(create("/v1/stream/a"), Delete("/v1/stream/a"))
    page = bench.engine.read(read("/v1/stream/__registry__")).result()
    events = json.loads(b"[" + page.data[:-1] + b"]")
    assert [(event["headers"]["operation"], event["key"]) for event in events] == [
        ("insert", "a"),
        ("delete", "a"),
    ]
    with pytest.raises(MethodNotAllowed):
        bench.do(Delete("/v1/stream/__registry__"))


@pytest.mark.parametrize(
    ("registry_path", "path"),
    [("__registry__", "/v1/stream/__registry__"), ("/all", "/all"), ("x/y", "/v1/stream/x/y")],
)
def test_registry_path_is_relative_to_root_or_absolute(registry_path: str, path: str) -> None:
    (hook,) = create_registry_hooks(registry_path)
    assert isinstance(hook, RegistryHook)
    assert hook.registry.path == path


def test_registry_path_that_cannot_name_stream_is_refused() -> None:
    with pytest.raises(BadRequest):
        create_registry_hooks("/a/../b")


def test_second_registry_is_refused() -> None:
    with pytest.raises(ValueError, match="one registry"):
        Hooks([*create_registry_hooks(), *create_registry_hooks("/other")])


def test_stream_of_other_content_type_cannot_serve_as_registry() -> None:
    store = StreamStore()
    store.create("/all", "text/plain")
    with pytest.raises(ValueError, match="cannot serve as the registry"):
        Engine(store, hooks=Hooks(create_registry_hooks("/all")))
