"""Marks the slow tests, and lists the slowest tests of a run with the reason why each is slow.

A test that needs more than half a second has the mark `slow` with its reason, by itself, by its file or by its folder. `make unit` runs the
tests without this mark.
"""

import gc
import os
from collections import defaultdict

import pytest

SHOWN = 20
#: Why all tests of a folder or file are slow. The first prefix that fits counts.
REASONS = {
    "tests/benchmarks/test_live.py": "measures a real server for a moment",
    "tests/benchmarks/test_subscriptions.py": "measures a real server for a moment",
    "tests/browser/": "starts Chromium",
    "tests/cli/": "runs the command as a process of its own",
    "tests/compatibility/": "opens directories of an earlier version with several servers",
    "tests/conformance/": "runs the official suite, most of which waits for long-polls",
    "tests/crash/": "kills servers, or simulates hundreds of crashes",
    "tests/damage/": "damages, checks and repairs many directories",
    "tests/delivery/": "runs trials with servers, workers and receivers in real time",
    "tests/docs/test_docs.py::test_python": "runs the programs of the page",
    "tests/docs/test_docs.py::test_readme": "runs the programs of the page",
    "tests/docs/test_promtool.py": "needs a tool that make unit does not install",
    "tests/docs/test_subscription_programs.py": "runs the programs of the page while it kills the server",
    "tests/examples/": "runs each example as a program of its own",
    "tests/extremes/": "sends every extreme value, then restarts the server",
    "tests/hostile/": "runs every kind of hostile client for some seconds",
    "tests/hosts/": "starts and stops host servers",
    "tests/http/gate/test_matrix.py": "makes a server for each cell of the matrix",
    "tests/http/asgi/test_http2": "sends thousands of requests over TLS",
    "tests/http/test_embedded.py": "starts servers on threads",
    "tests/http/test_fuzz.py": "tries many conversations, each cut at every octet",
    "tests/http/test_garbage.py": "runs the garbage collector after each request",
    "tests/http/test_kept.py::test_cached": "compares the responses of thousands of requests",
    "tests/http/test_semantics.py": "sends each request to several host servers",
    "tests/interop/": "runs npm packages and official clients against servers",
    "tests/memory/": "measures the memory of a server that has much data",
    "tests/overload/test_overload.py": "lets clients read slowly",
    "tests/mounted/": "runs the official suite below a mount",
    "tests/openapi/": "sends thousands of generated requests to servers",
    "tests/protocol/json/test_split.py": "splits bodies of many MiB",
    "tests/protocol/subscriptions/test_globs.py": "compares the cost of many patterns with that of few",
    "tests/protocol/test_ancestry.py": "builds very long chains of forks",
    "tests/proxies/": "starts proxies",
    "tests/soak/test_soak": "restarts a server under load for half a minute",
    "tests/storage/files/catalog/test_damage.py": "damages, checks and repairs many directories",
    "tests/storage/files/catalog/test_salvage.py": "damages, checks and repairs many directories",
    "tests/storage/files/offline/": "checks and repairs whole directories",
    "tests/storage/files/test_states.py::test_deep_forks": "makes forks at the limit of depth",
    "tests/streams/test_file_store.py": "opens stores with every extreme setting",
    "tests/streams/test_forked_copy.py": "forks processes",
    "tests/streams/test_properties.py": "compares thousands of random operations with a model",
    "tests/storage/files/test_store_properties.py": "compares thousands of random operations with a model",
    "tests/subscriptions/test_client_cleanup.py": "cancels an exchange at every step",
    "tests/subscriptions/test_dependencies.py": "imports each module in a process of its own",
    "tests/subscriptions/test_end_to_end.py": "kills servers, and waits for leases and retries",
    "tests/subscriptions/test_receiver.py": "signs and verifies thousands of deliveries",
    "tests/subscriptions/test_secrets.py": "starts servers, and reads all that they log",
    "tests/subscriptions/test_service_model.py": "compares thousands of random operations with a model",
    "tests/subscriptions/test_slots": "compares thousands of random operations with a model, or traces each line",
    "tests/test_install.py": "builds a wheel and installs it",
    "tests/test_log.py": "logs every character of Unicode",
}
#: Files whose single tests take long, so that each may run in another process.
LONG = ("tests/conformance/", "tests/crash/", "tests/interop/", "tests/mounted/")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow(reason): the test needs more than half a second")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of slow folders, and hands the reason of each slow test to the report."""
    for item in items:
        if item.get_closest_marker("slow") is None:
            for prefix, reason in REASONS.items():
                if item.nodeid.startswith(prefix):
                    item.add_marker(pytest.mark.slow(reason))
                    break
        mark = item.get_closest_marker("slow")
        if mark is not None:
            item.user_properties.append(("slow", mark.args[0]))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        items[:] = deal(items, workers)


def pytest_collection_finish() -> None:
    """Takes the modules of all tests out of the garbage collector's sight, because some tests run it hundreds of times."""
    gc.collect()
    gc.freeze()


def deal(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Returns the tests in an order whose equal parts, one for each worker, take about the same time.

    xdist gives each worker one part, and a worker that has finished its part takes tests from the end of another's. Slow tests are at the
    beginning of each part, so that none of them is the last to start. Tests of one file stay together because they share fixtures, except for
    tests that need a minute together.
    """
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        file = item.nodeid.partition("::")[0]
        units.setdefault(item.nodeid if file.startswith(LONG) else file, []).append(item)
    ordered = sorted(units.values(), key=lambda unit: unit[0].get_closest_marker("slow") is None)
    return [item for start in range(workers) for unit in ordered[start::workers] for item in unit]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the slowest tests of the run with their reasons."""
    seconds: defaultdict[str, float] = defaultdict(float)
    reasons: dict[str, str] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid] += report.duration
                for _, reason in report.user_properties:
                    reasons[report.nodeid] = str(reason)
    terminalreporter.section(f"the {SHOWN} slowest tests, and why they are slow")
    for test in sorted(seconds, key=lambda test: -seconds[test])[:SHOWN]:
        reason = reasons.get(test, "no reason given")
        terminalreporter.line(f"{seconds[test]:6.1f} s  {test}: {reason}")
