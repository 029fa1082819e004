"""Tests that a server does not import the packages that only subscriptions or metrics need before it needs them."""

import ssl
import subprocess
import sys

import pytest

from durable_streams_server.subscriptions.dependencies import load_dependencies

HEAVY = {"cryptography", "httpcore2", "anyio", "jwt", "prometheus_client"}


def imported_packages(code: str) -> set[str]:
    """Returns the top-level packages that a new process has imported after it has run `code`."""
    code = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(shown.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "durable_streams_server",
        "durable_streams_server.cli.main",
        "durable_streams_server.http.app",
        "durable_streams_server.http.embedded",
        "durable_streams_server.http.serving.server",
        "durable_streams_server.protocol.signing",
        "durable_streams_server.subscriptions.service",
    ],
)
def test_import_of_server_module_loads_no_heavy_package(module: str) -> None:
    assert not HEAVY & imported_packages(f"import {module}")


def test_load_dependencies_imports_every_heavy_package() -> None:
    code = (
        "from durable_streams_server.subscriptions.dependencies import load_dependencies\n"
        "load_dependencies()"
    )
    assert imported_packages(code) >= {"cryptography", "httpcore2", "jwt"}


def test_load_dependencies_returns_a_context_that_verifies_receivers() -> None:
    context = load_dependencies()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
