"""Tests of how a repair replays changes of subscriptions: cursors follow renamed streams, and a change of an unknown subscription is not applied."""

import msgspec
import pytest

from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.subscriptions.changes import CursorsMoved, WakeChanged
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.storage.files.offline.subscription_changes import SubscriptionChanges
from durable_streams_server.storage.files.offline.wal_reader import Gap
from durable_streams_server.testing.disk import SimulatedDisk
from tests.protocol.subscriptions.examples import subscribed
from tests.storage.files.offline.reconstructions import (
    LATER,
    A,
    incarnation,
    outcome,
    reconstruction,
)


@pytest.mark.parametrize(
    ("acknowledged", "kept"), [(3, 3), (7, 7), (8, None), (12, None), (500, None)]
)
def test_subscription_cursor_moves_to_new_incarnation_of_stream(
    disk: SimulatedDisk, acknowledged: int, kept: int | None
) -> None:
    found = reconstruction(disk)
    old = incarnation(disk, A)
    assert found.apply(CursorsMoved("s", ((A, Offset(old, acknowledged)),))) is None
    found.add_gap(Gap(4, None, None))
    done = outcome(found)
    new = next(move.new for move in done.moves if move.old == old)
    subscription = found.subscriptions.subscriptions.get("s")
    assert subscription is not None
    expected = {} if kept is None else {A: Offset(new, kept)}
    assert subscription.due == expected
    assert "subscription/s" in done.documents


@pytest.mark.parametrize("is_salvaged", [False, True])
def test_repaired_subscriptions_keep_their_owners(disk: SimulatedDisk, is_salvaged: bool) -> None:
    found = reconstruction(disk, is_salvaged=is_salvaged)
    found.add_gap(Gap(4, None, None))
    begun = msgspec.structs.replace(subscribed("t", LATER, "jwt:t"), at=LATER)
    assert found.apply(begun) is None
    assert found.apply(CursorsMoved("s", ())) is None
    repaired = Subscriptions()
    for name, document in outcome(found).documents.items():
        if document is not None and name != "news":
            repaired.restore(name, document)
    assert {each.id: each.owner for each in repaired} == {"s": "token:s", "t": "jwt:t"}
    assert found.subscriptions.subscriptions.owners.counts == {"token:s": 1, "jwt:t": 1}


def test_change_of_unknown_subscription_is_not_applied() -> None:
    changes = SubscriptionChanges(is_salvaged=False)
    why = "nothing is known of the subscription's beginning"
    assert changes.apply(WakeChanged("unknown", 1, None)) == why
    assert changes.dirty_documents() == {}
