"""Tests that promtool, the checker of Prometheus, accepts the metrics, the alert rules and the queries of the dashboard."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore, create_app
from tests.docs.metric_names import ALERTS, expressions_of_dashboard
from tests.http import asgi_driver

ROOT = Path(__file__).parents[2]


def promtool(*arguments: str, given: bytes = b"") -> str:
    """Runs promtool, and returns what it prints. Fails if promtool finds a mistake."""
    path = os.pathsep.join((str(ROOT / ".stamps"), os.environ["PATH"]))
    command = shutil.which("promtool", path=path)
    assert command is not None, "promtool is not installed: run make .stamps/promtool"
    ran = subprocess.run([command, *arguments], input=given, capture_output=True, timeout=60)
    said = (ran.stdout + ran.stderr).decode()
    assert ran.returncode == 0, said
    return said


async def test_promtool_accepts_the_metrics_without_remarks(tmp_path: Path) -> None:
    store = FileBackedStreamStore(tmp_path / "data")
    app = create_app(store=store)
    app.begin()
    text = {"content-type": "text/plain"}
    await asgi_driver.request(app, "PUT", "/v1/stream/a", text, b"x")
    await asgi_driver.request(app, "POST", "/v1/stream/a", text, b"y")
    await asgi_driver.request(app, "GET", "/v1/stream/a?offset=-1")
    answer = await asgi_driver.request(app, "GET", "/metrics")
    await app.stop()
    store.close()
    assert promtool("check", "metrics", given=answer.body) == ""


def test_promtool_accepts_the_alert_rules() -> None:
    rules = ALERTS.read_text().count("- alert:")
    assert f"SUCCESS: {rules} rules found" in promtool("check", "rules", str(ALERTS))


def test_promtool_accepts_every_query_of_the_dashboard(tmp_path: Path) -> None:
    queries = expressions_of_dashboard()
    rules = [{"record": f"query{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yml"  # JSON is also YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(queries)} rules found" in promtool("check", "rules", str(file))


def test_promtool_finds_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(ALERTS.read_text().replace("expr: up{", "expr: sum(up{", 1))
    with pytest.raises(AssertionError, match="could not parse expression"):
        promtool("check", "rules", str(file))
