"""Finds the metrics that PromQL expressions use."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = DOCS / "alerts.yml"
DASHBOARD = DOCS / "grafana-dashboard.json"


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def expressions_of_dashboard() -> list[str]:
    """Returns each query of the dashboard, as Grafana sends it, with values for its variables."""
    return [
        expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        for panel in dashboard()["panels"]
        for expression in (target["expr"] for target in panel.get("targets", ()))
    ]


def names_in(text: str) -> Iterator[str]:
    """Returns the names of metrics in an expression, or in any other text."""
    yield from re.findall(r"\b(?:durable_streams|process|python)_[a-z_]+", text)
