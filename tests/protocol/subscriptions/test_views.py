"""Tests of the streams and offsets that a view of a subscription lists."""

from typing import cast

import pytest

from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.offsets import ZERO
from durable_streams_server.protocol.subscriptions import views
from durable_streams_server.protocol.subscriptions.changes import LinkedStream
from durable_streams_server.protocol.subscriptions.commands import Inspect
from durable_streams_server.protocol.subscriptions.views import View
from tests.protocol.subscriptions.world import JSON, ROOT, A, B, World
from tests.requests import append, create, fork_of

START = str(ZERO)


def test_view_lists_unread_streams_first_and_missing_streams_at_offset_zero(
    world: World,
) -> None:
    world.append_to(A, A)
    world.subscribe(streams=["else/absent", "events/a", "events/b"])
    acked = world.tail(B)
    world.append_to(B)
    view = cast(View, world.decide(Inspect("s")).outcome)
    absent = f"{ROOT}/else/absent"
    assert view.streams == (
        LinkedStream(B, True, acked, world.tail(B)),
        LinkedStream(absent, True, START, START),
        LinkedStream(A, True, world.tail(A), world.tail(A)),
    )


def test_view_lists_at_most_the_maximum_number_of_streams(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_LISTED", 2)
    world.subscribe(streams=["x", "y", "z"], pattern="events/*")
    world.append_to(A)
    view = cast(View, world.decide(Inspect("s")).outcome)
    assert [stream.path for stream in view.streams] == [A, f"{ROOT}/x"]


def test_view_lists_a_soft_deleted_stream_as_missing(world: World) -> None:
    world.subscribe(streams=["events/a"])
    world.do(append(A, b"1", JSON), create(f"{ROOT}/f", None, fork=fork_of(A)), Delete(A))
    view = cast(View, world.decide(Inspect("s")).outcome)
    assert view.streams == (LinkedStream(A, True, START, START),)
