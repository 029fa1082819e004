"""Runs TypeScript test files with vitest against a running server."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TIME_LIMIT = 300  # seconds; a run takes about 20


@dataclass(frozen=True)
class Result:
    """The tests of one run, by outcome.

    Attributes:
        passed: names of the tests that passed.
        failed: names of the tests that failed, each with the reason.
        skipped: names of the tests that did not run.
    """

    passed: list[str]
    failed: list[str]
    skipped: list[str]


def run(
    file: str, url: str, report: Path, name: str = "", environment: Mapping[str, str] | None = None
) -> Result:
    """Runs a test file against a server and returns the outcomes.

    Args:
        file: path of the file below `tests`.
        url: URL of the server.
        report: path for the report of vitest.
        name: pattern of the test names to run; all tests by default.
        environment: further environment variables.
    """
    command = ["node", "node_modules/vitest/vitest.mjs", "run", "--root", str(ROOT)]
    command += [f"tests/{file}", "--reporter=json", f"--outputFile={report}"]
    if name:
        command += ["--testNamePattern", name]
    subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "DURABLE_STREAMS_URL": url, **(environment or {})},
        stdout=subprocess.DEVNULL,
        timeout=TIME_LIMIT,
        check=False,  # the report lists failed tests
    )
    by_status: dict[str, list[str]] = {}
    content: dict[str, Any] = json.loads(report.read_text())
    for ran in content["testResults"]:
        for test in ran["assertionResults"]:
            reasons = [message.partition("\n")[0] for message in test["failureMessages"]]
            by_status.setdefault(test["status"], []).append(": ".join([test["fullName"], *reasons]))
    passed = by_status.pop("passed", [])
    failed = by_status.pop("failed", [])
    skipped = [name for names in by_status.values() for name in names]
    return Result(passed, failed, skipped)
