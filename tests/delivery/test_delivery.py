"""Runs a few trials. `make subscriptions` runs many."""

from tests.delivery.history import Up
from tests.delivery.hunt import Options, failures, report
from tests.delivery.judge import Violation

SEEDS = 4


def test_webhook_deliveries_obey_all_rules_despite_server_failures() -> None:
    reports = [text for _, text in failures(0, SEEDS, Options())]
    assert not reports, "\n".join(reports)


def test_report_ends_with_the_command_that_repeats_the_trial() -> None:
    found = [Violation(0, "2 cursors", "wrong")]
    text = report(7, [Up()], found, Options(only=("cursors",)))
    last = text.splitlines()[-1]
    assert last.endswith("-m tests.delivery.hunt 7 1 --show --only=cursors")
