"""Has every rule read a history, and returns what they find."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests.delivery.history import BadSignature, Copied, Record, Restored, Wrong
from tests.delivery.rules.answers import Answers
from tests.delivery.rules.cursors import Cursors
from tests.delivery.rules.fencing import Fencing
from tests.delivery.rules.leases import Leases
from tests.delivery.rules.promptness import Promptness
from tests.delivery.rules.rate import Rate
from tests.delivery.rules.rule import Rule
from tests.delivery.rules.snapshots import Snapshots


class Reports(Rule):
    """Rules 1 and 10: what the trial itself has found wrong, and signatures that do not verify."""

    def on_wrong(self, record: Wrong) -> None:
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
    """One violation.

    Attributes:
        place: the number of the record that shows it.
        rule: its name.
        text: what is wrong.
    """

    place: int
    rule: str
    text: str


def judge(records: list[Record], only: Sequence[str] = ()) -> list[Violation]:
    """Returns the violations in a history, those of one rule after those of another.

    Args:
        records: the history.
        only: parts of the names of the rules to apply; all if it is empty.
    """
    rules = RULES.items()
    chosen = [each for each in rules if not only or any(part in each[0] for part in only)]
    return [each for name, kind in chosen for each in apply(name, kind(), records)]


def apply(name: str, rule: Rule, records: list[Record]) -> Iterator[Violation]:
    """Has one rule read a history. When a copy of the directory is restored, so is what the rule knew at that time."""
    copies: dict[str, dict[str, Any]] = {}
    for index, record in enumerate(records):
        if isinstance(record, Restored):
            rule.restore(copies[record.name])
        before = len(rule.found)
        rule.see(record)
        if isinstance(record, Copied):
            copies[record.name] = rule.save()
        for text in rule.found[before:]:
            yield Violation(index, name, text)
