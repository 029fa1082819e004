"""Tests of catalog entries: the parts of a stream's state that they store, and the order of their deadlines."""

import pytest

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.files.catalog import (
    DATES,
    DATES_BEGIN,
    entry_of,
    label_of_entry,
    place_of,
    state_of,
)
from durable_streams_server.storage.files.index import label_of
from tests.requests import NOW, SECOND


def state(lifetime: Lifetime = FOREVER) -> StreamState:
    return StreamState("/x", 5, parse_media_type("text/plain"), lifetime, NOW)


def test_entry_restores_state_of_stream() -> None:
    old = state(Lifetime(ttl=10))
    old.tail, old.closed, old.last_seq = 9, True, b"s"
    found = state_of("/x", entry_of(old, 3, session=4), session=4)
    assert (found.visible_tail, found.visible_closed, found.last_seq) == (9, True, b"s")
    assert found.deadline() == NOW + 10 * SECOND


def test_restart_extends_ttl_by_ten_percent() -> None:
    later = state_of("/x", entry_of(state(Lifetime(ttl=10)), 3, session=4), session=5)
    assert later.deadline() == NOW + 11 * SECOND
    assert entry_of(later, 3, session=5).session == 0


def test_log_label_from_entry_equals_label_from_stream_state() -> None:
    assert label_of_entry("/x", entry_of(state(), 3, session=4)) == label_of(state())


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        (FOREVER, None),
        (Lifetime(ttl=10), NOW + 10 * SECOND),
        (Lifetime(expires_at=NOW), DATES + NOW),
    ],
)
def test_sort_key_of_lifetime_is_its_deadline_or_idle_time(
    lifetime: Lifetime, expected: int | None
) -> None:
    assert place_of(lifetime, NOW) == expected


def test_idle_times_sort_before_absolute_deadlines() -> None:
    place = place_of(Lifetime(ttl=1 << 60), 1 << 62)
    assert place is not None
    assert place < DATES_BEGIN < DATES


def test_soft_deleted_stream_has_no_deadline() -> None:
    deleted = state(Lifetime(ttl=10))
    deleted.soft_deleted = True
    entry = entry_of(deleted, 0, 1)
    assert (entry.deadline, entry.older_deadline) == (None, None)
