"""The names of metrics follow the conventions of Prometheus, and no label can grow with streams or clients."""

import re

import pytest

from durable_streams_server.http.observing.families import FAMILIES, Family

#: Labels whose values are fixed lists in the source.
FIXED = {"route", "status", "kind", "line", "outcome", "name", "version"}


def test_names_are_unique() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_metric_follows_the_conventions(family: Family) -> None:
    assert re.fullmatch(r"durable_streams_[a-z]+(_[a-z]+)*", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert family.help.endswith(".")
    assert set(family.labels) <= FIXED
