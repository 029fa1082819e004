"""The command `settings`: the values and their sources, the check of a file, and the example."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from durable_streams_server.cli import main
from durable_streams_server.cli.settings.settings import ALL
from tests.process import run


def settings(*arguments: str, environment: dict[str, str] | None = None) -> Result:
    return CliRunner(env=environment).invoke(main, ["settings", *arguments])


def test_each_value_is_shown_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("page-size = 2048")
    shown = settings(
        "--config",
        str(file),
        "--no-http2",
        environment={"DURABLE_STREAMS_WEBHOOK_DENY": "a.example,b.example"},
    )
    assert shown.exit_code == 0
    lines = {line.split(" = ")[0]: line for line in shown.output.splitlines()}
    assert lines["page-size"].split() == ["page-size", "=", '"2k"', "#", "file", str(file)]
    assert lines["http2"].split("#")[1] == " flag --no-http2"
    assert lines["host"].split("#")[1] == " default"
    assert lines["webhook-deny"].startswith('webhook-deny = ["a.example", "b.example"]  # envir')
    assert "# max-connections-per-address: half of --max-connections" in lines
    assert "# uds" in lines


def test_what_is_shown_is_a_settings_file_itself(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(settings("--port", "5", "--cors-origin", "https://a.example").output)
    again = settings("--config", str(file)).output
    assert "port = 5 " in again
    assert 'cors-origin = ["https://a.example"] ' in again
    assert all(f"{option.key}" in again for option in ALL)


def test_wrong_settings_print_one_line_and_exit_2() -> None:
    shown = run("settings", "--port", "70000")
    assert (shown.returncode, shown.stdout, shown.stderr.count("\n")) == (2, "", 1)
    assert shown.stderr.startswith("Error: Invalid value for '--port': ")


def test_right_file_exits_0_without_regard_to_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("port = 5\nmemory = true")
    environment = {"DURABLE_STREAMS_DATA_DIR": "x", "DURABLE_STREAMS_CONFIG": "/nowhere"}
    shown = settings("--check", str(file), environment=environment)
    assert (shown.exit_code, shown.output) == (0, f"{file} is right\n")


@pytest.mark.parametrize(
    "text",
    [
        "port = 70000",
        "prot = 1",
        'memory = true\nwal-size = "480m"',
        'tls-cert = "x"',
        'max-body = "100m"\nwal-size = "480m"',
        'max-body = "300m"',
        'cors-origin = ["none", "*"]',
    ],
)
def test_wrong_file_prints_one_line_and_exits_2(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    shown = run("settings", "--check", str(file))
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith("Error: ")
    assert shown.stderr.count("\n") == 1
    assert str(file) in shown.stderr


def test_example_is_printed_and_passes_the_check(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    shown = settings("--example", environment={"DURABLE_STREAMS_NONSENSE": "1"})
    assert shown.exit_code == 0
    file.write_text(shown.output)
    assert settings("--check", str(file)).exit_code == 0
