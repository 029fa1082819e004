"""Runs one TypeScript test file against an address and says what passed."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TIME_LIMIT = 300  # seconds for a run that takes about twenty


@dataclass(frozen=True)
class Result:
    """Names of tests by how they ended, with the reason of a failure, and vitest's exit status: not 0 after an error outside tests, too."""

    passed: list[str]
    failed: list[str]
    skipped: list[str]


def run(
    file: str, url: str, report: Path, name: str = "", environment: Mapping[str, str] | None = None
) -> Result:
    """Runs a file of this folder against `url`; `name` is a pattern of test names, to run only those."""
    command = ["npx", "--no-install", "vitest", "run", "--root", str(ROOT)]
    command += [f"tests/{file}", "--reporter=json", f"--outputFile={report}"]
    if name:
        command += ["--testNamePattern", name]
    subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "DURABLE_STREAMS_URL": url, **(environment or {})},
        stdout=subprocess.DEVNULL,
        timeout=TIME_LIMIT,
        check=False,  # the report says what failed
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
