"""Runs our TypeScript tests of the official npm packages that are built on streams, on both stores.

The packages are the Yjs server and its provider, StreamDB, and the transports of the AI SDK and of TanStack AI.
"""

import json
from pathlib import Path

import pytest

from tests import vitest
from tests.process import COMMAND, serve

# Short timeouts, so that live reads often end and begin again. The official client treats event streams that end within a second as broken, and
# the server may end them 20% early.
FLAGS = ("--drain", "0", "--long-poll-timeout", "0.5", "--sse-max-age", "1.4")

TESTS = {"yjs": 32, "state": 29, "aisdk": 11, "tanstack": 9}
TESTS_OF_RESTARTS = 12


def check(result: vitest.Result, count: int) -> None:
    assert result.failed == []
    assert result.skipped == []
    assert len(result.passed) == count


@pytest.mark.parametrize("program", TESTS)
@pytest.mark.parametrize("kept", ["memory", "files"])
def test_npm_package_passes_its_tests(kept: str, program: str, tmp_path: Path) -> None:
    store = ("--memory",) if kept == "memory" else ("--data-dir", str(tmp_path / "data"))
    with serve(*store, *FLAGS) as server:
        result = vitest.run(f"interop/{program}.test.ts", server.url, tmp_path / "report.json")
    check(result, TESTS[program])


def test_npm_packages_survive_restart_of_server(tmp_path: Path) -> None:
    """The TypeScript tests start, stop and kill the servers themselves."""
    command = {"SERVER_COMMAND": json.dumps([*COMMAND, "serve", *FLAGS])}
    report = tmp_path / "report.json"
    result = vitest.run("interop/restart.test.ts", "", report, environment=command)
    check(result, TESTS_OF_RESTARTS)
