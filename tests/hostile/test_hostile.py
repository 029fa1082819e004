"""A siege of a few seconds; `make hostile` runs one of a minute."""

import pytest

from .kinds import KINDS
from .siege import besiege

SECONDS = 8.0
#: Seconds that a cheap read may take here. The machine that runs the tests may be busy with others; `make hostile` is stricter.
LONGEST = 2.0


def test_there_are_twenty_kinds_and_each_says_what_it_does() -> None:
    assert len(KINDS) >= 20
    assert all(kind.__doc__ for kind in KINDS)


@pytest.mark.timeout(240)
def test_server_survives_every_kind_of_hostile_client_at_once() -> None:
    report = besiege(SECONDS)
    assert report.complaints(LONGEST) == [], report.table()
    assert all(rounds for rounds, _ in report.done.values()), report.table()
