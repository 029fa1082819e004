"""Runs our tests of the official TypeScript client, on both stores."""

from pathlib import Path

import pytest

from tests import vitest
from tests.process import serve

TESTS = 17


@pytest.mark.parametrize("kept", ["memory", "files"])
def test_official_typescript_client_passes_its_tests(kept: str, tmp_path: Path) -> None:
    store = ("--memory",) if kept == "memory" else ("--data-dir", str(tmp_path / "data"))
    with serve(*store, "--long-poll-timeout", "0.5") as server:
        result = vitest.run("interop/client.test.ts", server.url, tmp_path / "report.json")
    assert result.failed == []
    assert result.skipped == []
    assert len(result.passed) == TESTS
