"""Runs the official conformance suite. All its tests must pass, none may be skipped, and their number is checked (TRAPS 54)."""

from pathlib import Path

import pytest

from tests import vitest
from tests.http import certificates
from tests.process import serve

CORE_TESTS = 332
TESTS = CORE_TESTS + 6  # plus tests of subscriptions, which the suite runs only on request


@pytest.mark.parametrize(
    "flags",
    [(), ("--page-size", "4096"), ("--http", "asgi")],
    ids=["default", "page-4096", "asgi"],
)
@pytest.mark.parametrize("kept", ["memory", "files"])
def test_conformance_suite_passes(kept: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    store = ("--memory",) if kept == "memory" else ("--data-dir", str(tmp_path / "data"))
    with serve(*store, "--long-poll-timeout", "0.5", *flags) as server:
        result = vitest.run("conformance/suite.test.ts", server.url, tmp_path / "report.json")

    assert result.failed == []
    assert result.skipped == []
    assert len(result.passed) == TESTS


@pytest.mark.parametrize("lane", ["native", "asgi"])
def test_conformance_suite_passes_over_http2(lane: str, tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    flags = ("--memory", "--tls-cert", made.chain, "--tls-key", made.key, "--http", lane)
    with serve(*flags, "--long-poll-timeout", "0.5") as server:
        report = tmp_path / "report.json"
        result = vitest.run(
            "conformance/http2.test.ts",
            server.url,
            report,
            environment={"DURABLE_STREAMS_CA": made.chain},
        )

    assert result.failed == []
    assert result.skipped == []
    assert len(result.passed) == TESTS
