"""Tests that the dashboard has only fields of Grafana's own schema, from which its Python types are generated."""

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.docs.metric_names import dashboard


def lost(given: Any, read: Any, path: str = "") -> list[str]:
    """Returns where `given` has something that is missing in `read`."""
    if isinstance(given, dict) and isinstance(read, dict):
        found = [f"{path}/{key}" for key in given.keys() - read.keys()]
        for key in given.keys() & read.keys():
            found += lost(given[key], read[key], f"{path}/{key}")
        return found
    if isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        return [
            each
            for index, (one, other) in enumerate(zip(given, read, strict=True))
            for each in lost(one, other, f"{path}/{index}")
        ]
    return [] if given == read else [path]


@pytest.fixture(scope="module", autouse=True)
def plugins() -> None:
    """Registers the types of panels and queries, without which Grafana's types keep any field."""
    register_default_plugins()


def read_by_grafana(given: Any) -> Any:
    """Returns a dashboard after Grafana's types have read and written it. They drop fields that they do not know."""
    return json.loads(json.dumps(Dashboard.from_json(given), cls=JSONEncoder))


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    assert lost(dashboard(), read_by_grafana(dashboard())) == []


@pytest.mark.parametrize("part", ["dashboard", "panel", "query", "options"])
def test_unknown_field_is_found(part: str) -> None:
    given = dashboard()
    panel = given["panels"][1]
    places = {
        "dashboard": given,
        "panel": panel,
        "query": panel["targets"][0],
        "options": panel["options"]["legend"],
    }
    places[part]["nonsense"] = 1
    (found,) = lost(given, read_by_grafana(given))
    assert found.endswith("/nonsense")
