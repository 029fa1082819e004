"""Runs the official conformance suite against an address and says what passed."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 300  # seconds for a run that takes about twenty


@dataclass(frozen=True)
class Result:
    """Names of tests by how they ended."""

    passed: list[str]
    failed: list[str]
    skipped: list[str]


def run(url: str, report: Path, name: str = "") -> Result:
    """Runs the suite against `url`; `name` is a pattern of test names, for work on one of them."""
    command = ["npx", "--no-install", "vitest", "run", "--root", str(ROOT)]
    command += ["tests/conformance/suite.test.ts", "--reporter=json", f"--outputFile={report}"]
    if name:
        command += ["--testNamePattern", name]
    subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "DURABLE_STREAMS_URL": url},
        stdout=subprocess.DEVNULL,
        timeout=TIME_LIMIT,
        check=False,  # the report says what failed
    )
    by_status: dict[str, list[str]] = {}
    for file in json.loads(report.read_text())["testResults"]:
        for test in file["assertionResults"]:
            by_status.setdefault(test["status"], []).append(test["fullName"])
    passed = by_status.pop("passed", [])
    failed = by_status.pop("failed", [])
    return Result(passed, failed, [name for names in by_status.values() for name in names])
