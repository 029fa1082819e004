"""Applies the rules to the history of a trial."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests.delivery.history import BadSignature, Copied, Failure, Record, Restored
from tests.delivery.rules.answers import Answers
from tests.delivery.rules.cursors import Cursors
from tests.delivery.rules.fencing import Fencing
from tests.delivery.rules.leases import Leases
from tests.delivery.rules.promptness import Promptness
from tests.delivery.rules.rate import Rate
from tests.delivery.rules.rule import Rule
from tests.delivery.rules.snapshots import Snapshots


class Reports(Rule):
    """Rules 1 and 10: the trial itself has found no failure, and all signatures are right."""

    def on_failure(self, record: Failure) -> None:
        self.found.append(record.what)

    def on_badsignature(self, record: BadSignature) -> None:
        self.found.append(f"the signature of delivery {record.number} is wrong: {record.reason}")


RULES: dict[str, type[Rule]] = {
    "trial": Reports,
    "2 cursors": Cursors,
    "3 snapshots": Snapshots,
    "4 fencing": Fencing,
    "5 leases": Leases,
    "6 promptness": Promptness,
    "7 rate": Rate,
    "8, 9 answers": Answers,
}


class Violation(NamedTuple):
    """One violation of a rule.

    Attributes:
        place: the index of the record at which the rule found the violation.
        rule: the name of the rule.
        text: a sentence that describes the violation.
    """

    place: int
    rule: str
    text: str


def judge(records: list[Record], only: Sequence[str] = ()) -> list[Violation]:
    """Returns the violations in a history, grouped by rule.

    Args:
        records: the history.
        only: parts of the names of the rules to apply. An empty sequence applies all rules.
    """
    rules = RULES.items()
    chosen = [each for each in rules if not only or any(part in each[0] for part in only)]
    return [each for name, kind in chosen for each in apply(name, kind(), records)]


def apply(name: str, rule: Rule, records: list[Record]) -> Iterator[Violation]:
    """Yields the violations of one rule.

    When the trial restores a copy of the directory, the rule returns to its state at the time of the copy.
    """
    copies: dict[str, dict[str, Any]] = {}
    for index, record in enumerate(records):
        if isinstance(record, Restored):
            rule.restore(copies[record.name])
        before = len(rule.found)
        rule.read(record)
        if isinstance(record, Copied):
            copies[record.name] = rule.save()
        for text in rule.found[before:]:
            yield Violation(index, name, text)
