"""Tests that docs/metrics.md, the dashboard and the alert rules name the metrics that the server has, and only those."""

import re
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore, create_app
from durable_streams_server.http.observing.families import FAMILIES, Family
from durable_streams_server.http.serving.server import Server
from durable_streams_server.subscriptions.counts import OUTCOMES
from tests.docs.metric_names import (
    ALERTS,
    DOCS,
    dashboard,
    expressions_of_dashboard,
    names_in,
)
from tests.http.observing.scrapes import scrape

PAGE = (DOCS / "metrics.md").read_text()
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def row_of(family: Family) -> str:
    """Returns the row of a metric in the page."""
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.name}` | {family.kind} | {labels} | {family.help.rstrip('.')} |"


def test_page_has_a_row_for_each_metric() -> None:
    rows = re.findall(r"^\| `durable_streams_.*$", PAGE, re.M)
    assert sorted(rows) == sorted(map(row_of, FAMILIES))


async def test_page_lists_every_limit_of_a_server(tmp_path: Path) -> None:
    store = FileBackedStreamStore(tmp_path / "data")
    app = create_app(store=store)
    Server(app)
    listed = re.findall(r"^\| `([a-z_]+)` \| [^|]+ \|$", PAGE, re.M)
    assert sorted(set(listed) - {"name"}) == [limit.name for limit in app.limits]
    store.close()


def test_page_lists_every_outcome_of_a_delivery() -> None:
    assert [name for name in OUTCOMES if f"`{name}`" not in PAGE] == []


@pytest.fixture
async def existing(tmp_path: Path) -> set[str]:
    """Returns the names of all series that a server can have."""
    store = FileBackedStreamStore(tmp_path / "data")
    app = create_app(store=store)
    app.begin()
    found = {sample.name for metric in await scrape(app) for sample in metric.samples}
    await app.stop()
    store.close()
    return found | {each.name + end for each in FAMILIES for end in SUFFIXES[each.kind]}


def test_every_metric_of_the_dashboard_exists(existing: set[str]) -> None:
    used = {name for each in expressions_of_dashboard() for name in names_in(each)}
    assert len(used) > 30
    assert used - existing == set()


def test_every_metric_of_the_alert_rules_exists(existing: set[str]) -> None:
    used = set(names_in(ALERTS.read_text()))
    assert len(used) > 10
    plain = {family.name for family in FAMILIES}  # as annotations name histograms
    assert used - existing - plain == set()


def test_dashboard_shows_every_metric() -> None:
    shown = {name for each in expressions_of_dashboard() for name in names_in(each)}
    unseen = [
        family.name
        for family in FAMILIES
        if not shown & {family.name + end for end in SUFFIXES[family.kind]}
    ]
    assert unseen == ["durable_streams_live_read_seconds"]


def test_panels_of_the_dashboard_have_ids_titles_and_places_of_their_own() -> None:
    panels = dashboard()["panels"]
    for field in ("id", "title"):
        values = [panel[field] for panel in panels]
        assert len(set(values)) == len(values)
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in panels]
    taken: set[tuple[int, int]] = set()
    for x, y, width, height in places:
        cells = {(x + right, y + down) for right in range(width) for down in range(height)}
        assert not cells & taken
        assert x + width <= 24
        taken |= cells
