"""Tests of the number of subscriptions that each client has created."""

import pytest

from durable_streams_server.protocol.subscriptions.owner_counts import OwnerCounts


def test_owner_without_subscriptions_takes_no_memory() -> None:
    counts = OwnerCounts()
    assert (counts.of("a"), counts.most) == (0, 0)
    for owner in ("a", "b", "a", None):
        counts.add(owner)
    assert (counts.of("a"), counts.of("b"), counts.most) == (2, 1, 2)
    assert counts.counts == {"a": 2, "b": 1}
    for owner in ("a", None, "b"):
        counts.remove(owner)
    assert counts.counts == {"a": 1}
    counts.remove("a")
    assert (counts.counts, counts.most) == ({}, 0)


def test_owner_that_was_never_counted_cannot_be_removed() -> None:
    with pytest.raises(KeyError):
        OwnerCounts().remove("a")
