"""Lifecycle hooks and the registry: every begin and every end, once each."""

import asyncio
import json

import pytest

from durable_streams_server import StreamStore, create_registry_hooks
from durable_streams_server.errors import BadRequest, MethodNotAllowed
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.hooks import Hooks, RegistryHook, StreamLifecycleEvent
from tests.requests import SECOND, append, create, fork_of
from tests.streams.engines import Bench, read


def test_begins_and_ends_are_told_with_what_is_known() -> None:
    told: list[StreamLifecycleEvent] = []
    bench = Bench(hooks=Hooks([told.append]))
    now = bench.clock.now / SECOND
    bench.do(create("/a", "text/plain"), append("/a", b"x", "text/plain"), Delete("/a"))
    assert told == [
        StreamLifecycleEvent("created", "/a", "text/plain", now),
        StreamLifecycleEvent("deleted", "/a", None, now),
    ]


def test_a_soft_delete_is_the_end_and_the_cascade_is_not_told_again() -> None:
    told: list[tuple[str, str]] = []
    bench = Bench(hooks=Hooks([lambda event: told.append((event.type, event.path))]))
    bench.do(create("/a"), create("/b", None, fork=fork_of("/a")), Delete("/a"), Delete("/b"))
    assert told == [("created", "/a"), ("created", "/b"), ("deleted", "/a"), ("deleted", "/b")]


async def test_an_asynchronous_hook_is_waited_for_at_the_stop() -> None:
    told: list[str] = []

    async def slow(event: StreamLifecycleEvent) -> None:
        await asyncio.sleep(0.01)
        told.append(event.type)

    bench = Bench(hooks=Hooks([slow]))
    bench.do(create("/a"))
    assert told == []
    await bench.engine.stop()
    assert told == ["created"]


async def test_a_hook_that_fails_is_logged_and_hurts_nobody(
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


def test_the_registry_lists_others_and_not_itself() -> None:
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
def test_a_registry_path_is_below_the_root_or_whole(registry_path: str, path: str) -> None:
    (hook,) = create_registry_hooks(registry_path)
    assert isinstance(hook, RegistryHook)
    assert hook.registry.path == path


def test_a_registry_path_that_names_no_stream_is_refused() -> None:
    with pytest.raises(BadRequest):
        create_registry_hooks("/a/../b")


def test_there_is_one_registry_at_most() -> None:
    with pytest.raises(ValueError, match="one registry"):
        Hooks([*create_registry_hooks(), *create_registry_hooks("/other")])


def test_a_stream_of_another_kind_cannot_become_the_registry() -> None:
    store = StreamStore()
    store.create("/all", "text/plain")
    with pytest.raises(ValueError, match="cannot serve as the registry"):
        Engine(store, hooks=Hooks(create_registry_hooks("/all")))
