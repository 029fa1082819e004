"""Tests that check the documents against the code."""

import re
import subprocess
import sys
from pathlib import Path

import durable_streams_server
from durable_streams_server import errors
from durable_streams_server.cli.serve import serve
from durable_streams_server.errors import StreamError

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "durable_streams_server"
#: codes of error classes that are always raised with a more specific code
GENERAL = {"INVALID_REQUEST", "CONFLICT", "TOO_MANY_REQUESTS", "UNAVAILABLE"}


def coded() -> set[str]:
    """Returns every error code that the source raises: the defaults of the classes, and those passed when raising."""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    own = {kind.code for kind in classes if issubclass(kind, StreamError)}
    given: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        if file.name not in (
            "__init__.py",
            "main.py",
            "system_file.py",
            "listening.py",
            "server.py",
        ):
            text = re.sub(r"^__all__ = .*?\]$", "", file.read_text(), flags=re.M | re.S)
            given |= set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', text))
    return (own | given) - GENERAL - {"NO_BODY", "OCTET_STREAM", "AF_UNIX", "GLIBC_TUNABLES"}


def test_error_codes_in_the_source_equal_the_documented_ones() -> None:
    documented = re.findall(
        r"^\| \d{3} \| `([A-Z_]+)` \|", (ROOT / "docs/errors.md").read_text(), re.M
    )
    assert set(documented) == coded()


def test_guides_mention_every_public_name() -> None:
    guides = "".join((ROOT / f"docs/{name}.md").read_text() for name in ("node", "python"))
    refusals = {
        name
        for name, value in vars(durable_streams_server).items()
        if isinstance(value, type) and issubclass(value, StreamError)
    }
    for name in set(durable_streams_server.__all__) - refusals - {"DurableStreamsApp"}:
        assert name in guides or getattr(errors, name, None), name


#: Uses the application of the README like a client.
USE = """
from starlette.testclient import TestClient
with TestClient(app) as client:
    client.post("/say?text=hello").raise_for_status()
    assert client.put("/streams/mine").status_code == 405
    print(*client.get("/streams/chat?offset=-1").json())
"""


def test_readme_examples_run(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    mounted, tested = re.findall(r"```python\n(.*?)```", readme, re.S)
    for code in (mounted + USE, tested):
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30
        )
        assert (ran.returncode, ran.stdout) == (0, "hello\n"), ran.stderr


def test_readme_has_fewer_than_150_lines() -> None:
    assert (ROOT / "README.md").read_text().count("\n") < 150


def test_python_guide_examples_run() -> None:
    guide = (ROOT / "docs/python.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", guide, re.S)
    assert examples
    shown = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        for code in examples
    ]
    assert [run.returncode for run in shown] == [0] * len(shown), [run.stderr for run in shown]
    assert shown[0].stdout == "Hello, world"


def test_links_between_documents_have_a_target() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_test_named_in_the_traps_exists() -> None:
    table = (ROOT / "docs/traps.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", table)
    assert named
    for file, test in named:
        assert re.search(rf"def {test}\(", (ROOT / file).read_text()), f"{file}::{test}"
    numbers = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.M)}
    assert numbers >= {*range(1, 41), 45, 46, 47, 48, 49, 50, 51, 52, 53, 56}


def test_flags_in_the_documents_exist() -> None:
    flags = {flag for each in serve.params for flag in (*each.opts, *each.secondary_opts)}
    # These are flags of every command, of `check`, and of gunicorn.
    flags |= {"--help", "--repair", "--preload"}
    for name in ("README.md", "docs/browsers.md", "docs/operations.md", "docs/subscriptions.md"):
        document = ROOT / name
        named = set(re.findall(r"`(?:serve )?(--[\w-]*\w)", document.read_text()))
        assert named <= flags, f"{document.name}: {named - flags}"


def test_files_named_in_architecture_and_contributing_exist() -> None:
    known = [
        file.relative_to(ROOT).as_posix()
        for folder in ("src", "tests", "benchmarks", "docs")
        for file in (ROOT / folder).rglob("*")
        if "node_modules" not in file.parts
    ]
    for page in ("ARCHITECTURE.md", "CONTRIBUTING.md"):
        text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
        for name in re.findall(r"`([\w/.]+\.py)`", text):
            assert any(f"/{each}".endswith(f"/{name}") for each in known), (
                page,
                name,
            )
