"""A few trials; `make subscriptions` runs many."""

from tests.delivery.hunt import Options, attempts

SEEDS = 4


def test_deliveries_follow_the_rules_whatever_happens_to_the_server() -> None:
    found = [text for _, text in attempts(0, SEEDS, Options())]
    assert not found, "\n".join(found)
