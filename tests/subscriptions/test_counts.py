"""`DeliveryCounts` has a count for every way in which a delivery can end."""

import pytest

from durable_streams_server.subscriptions import network
from durable_streams_server.subscriptions.counts import OUTCOMES, DeliveryCounts


def test_each_outcome_is_counted_by_itself() -> None:
    counts = DeliveryCounts()
    counts.add("refused")
    counts.add("refused")
    assert counts.outcomes == {name: 2 * (name == "refused") for name in OUTCOMES}


@pytest.mark.parametrize(
    "code",
    [
        network.NO_ANSWER,
        network.UNREACHABLE,
        network.FORBIDDEN,
        network.REDIRECT,
        network.INVALID_ANSWER,
    ],
)
def test_every_failure_of_the_network_has_a_count(code: str) -> None:
    assert code in OUTCOMES


def test_unknown_outcome_is_an_error() -> None:
    with pytest.raises(KeyError):
        DeliveryCounts().add("new")
