"""Tests of `configure` and of listeners, which all stores that run the decisions themselves share."""

from collections.abc import Sequence

import pytest

from durable_streams_server.protocol.registry import Registry
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.store import Published
from tests.requests import NOW, append, create


def test_configure_refuses_registry_at_path_of_ordinary_stream() -> None:
    store = MemoryStore()
    store.execute(create("/reg", "text/plain"), NOW).result()
    with pytest.raises(ValueError, match="the stream at /reg cannot serve as the registry"):
        store.configure(Registry("/reg"))


def test_configure_does_not_change_producer_limit() -> None:
    store = MemoryStore(max_producers=7)
    store.configure(Registry("/reg"))
    assert store._rules.max_producers == 7
    assert store._rules.timeline is store.timeline


def test_removed_listener_is_not_called() -> None:
    store = MemoryStore()
    heard: list[int] = []

    def listener(published: Sequence[Published]) -> None:
        heard.append(len(published))

    store.listen(listener)
    store.execute(create("/a"), NOW).result()
    store.ignore(listener)
    store.execute(append("/a", b"x"), NOW).result()
    assert heard == [1]
