"""Tests of the listeners of a store, and of the name that each opening of a store gets."""

from collections.abc import Sequence

import pytest

from durable_streams_server.storage.store import Listeners, Published, new_opening


def test_listener_that_fails_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[int] = []

    def broken(_: Sequence[Published]) -> None:
        raise ZeroDivisionError

    listeners = Listeners()
    listeners.add(broken)
    listeners.add(lambda published: heard.append(len(published)))
    listeners.tell([])
    assert heard == [0]
    assert caplog.messages == ["a listener of the store failed"]


def test_listener_may_be_removed_twice() -> None:
    heard: list[int] = []

    def listener(published: Sequence[Published]) -> None:
        heard.append(len(published))

    listeners = Listeners()
    listeners.add(listener)
    listeners.remove(listener)
    listeners.remove(listener)
    listeners.tell([])
    assert heard == []


def test_clear_removes_every_listener() -> None:
    heard: list[int] = []
    listeners = Listeners()
    listeners.add(lambda published: heard.append(len(published)))
    listeners.clear()
    listeners.tell([])
    assert heard == []


def test_new_opening_returns_different_names() -> None:
    assert len({new_opening() for _ in range(100)}) == 100
