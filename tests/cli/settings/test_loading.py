"""Loading settings: which source wins, loading again, and what a running server takes over."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from durable_streams_server.cli import main
from durable_streams_server.cli.settings.definition import Setting
from durable_streams_server.cli.settings.loading import (
    BadSettings,
    SettingsCommand,
    load_settings,
    reload_settings,
)
from durable_streams_server.cli.settings.settings import ALL, TOPICS, Settings
from tests.process import serve

FLAG, VARIABLE, FILE = ["--port", "3"], {"DURABLE_STREAMS_PORT": "2"}, "port = 1"


@pytest.mark.parametrize(
    ("flags", "variables", "text", "port"),
    [
        (FLAG, VARIABLE, FILE, 3),
        ([], VARIABLE, FILE, 2),
        ([], {}, FILE, 1),
        ([], {}, "", 4437),
        (FLAG, {}, FILE, 3),
        (FLAG, VARIABLE, "", 3),
    ],
)
def test_flag_overrides_variable_and_variable_overrides_file(
    flags: list[str], variables: dict[str, str], text: str, port: int, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    assert load_settings(["--config", str(file), *flags], variables).settings.port == port


def test_list_of_a_higher_source_replaces_the_whole_list(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('webhook-deny = ["a.example", "b.example"]')
    arguments = ["--config", str(file), "--webhook-deny", "c.example"]
    assert load_settings(arguments, {}).settings.webhook_deny == ("c.example",)


def test_settings_have_defaults_and_cannot_change() -> None:
    settings = load_settings([], {}).settings
    assert settings == Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]  # the test shows that this fails


def test_help_is_grouped_by_topic() -> None:
    shown = CliRunner().invoke(main, ["serve", "--help"]).output
    titles = [line.rstrip(":") for line in shown.splitlines() if line[:1].isalpha()]
    assert titles[1:] == ["Options", *TOPICS]
    assert "--webhook-allow-loopback / --no-webhook-allow-loopback" in shown


def test_help_needs_no_right_settings() -> None:
    environment = {"DURABLE_STREAMS_CONFIG": "/nowhere", "DURABLE_STREAMS_NONSENSE": "1"}
    for command in ("serve", "settings"):
        assert CliRunner(env=environment).invoke(main, [command, "--help"]).exit_code == 0


def test_shell_completion_reads_no_file() -> None:
    command = SettingsCommand("serve")
    ctx = command.make_context(None, ["--config", "/nowhere"], resilient_parsing=True)
    assert ctx.default_map is None


def test_bad_settings_name_the_setting_and_its_source() -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings([], {"DURABLE_STREAMS_PORT": "70000"})
    assert str(refused.value) == (
        "Invalid value for DURABLE_STREAMS_PORT: 70000 is not in the range 0<=x<=65535."
    )
    for arguments, said in (
        (["--nonsense"], "No such option '--nonsense'."),
        (["--port"], "Option '--port' requires an argument."),
        (["nonsense"], "Got unexpected extra argument (nonsense)"),
    ):
        with pytest.raises(BadSettings) as refused:
            load_settings(arguments, {})
        assert str(refused.value) == said


# -- loading again -----------------------------------------------------------


def reloadable(*names: str) -> list[Setting]:
    """Returns all settings, of which only those named can be reloaded."""
    options = []
    for option in ALL:
        copy: Any = Setting.__new__(Setting)
        copy.__dict__.update(option.__dict__, reloadable=option.name in names)
        options.append(copy)
    return options


def test_running_server_takes_over_what_it_can_change(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('log-level = "info"\nport = 1\nsse-max-age = 5')
    running = load_settings(["--config", str(file), "--sse-max-age", "9"], {})
    file.write_text('log-level = "debug"\nport = 2\nsse-max-age = 6')
    found = reload_settings(running, {}, reloadable("log_level"))
    settings = found.loaded.settings
    assert (settings.log_level, settings.port, settings.sse_max_age) == ("debug", 1, 9.0)
    assert (found.changed, found.needs_restart) == (("log-level",), ("port",))
    again = reload_settings(found.loaded, {}, reloadable("log_level"))
    assert (again.changed, again.needs_restart) == ((), ("port",))


def test_broken_file_is_refused_when_it_is_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("port = 1")
    running = load_settings(["--config", str(file)], {})
    file.write_text("port = ")
    with pytest.raises(BadSettings, match="is not TOML"):
        reload_settings(running, {})


def test_change_that_contradicts_a_setting_of_the_start_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("max-body = 10\nmax-in-flight = 10")
    running = load_settings(["--config", str(file)], {})
    file.write_text("max-body = 20\nmax-in-flight = 20")
    with pytest.raises(BadSettings) as refused:
        reload_settings(running, {}, reloadable("max_body"))
    assert refused.value.message == (
        f"'max-body' in {file} 20 is above 'max-in-flight' in {file} 10: "
        "such a body could never be taken; some changes need a restart"
    )


# -- the command -------------------------------------------------------------


def test_server_runs_with_the_settings_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f'uds = "{tmp_path}/socket"\nmemory = true')
    code = "from durable_streams_server.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--config", str(file)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"Listening on unix:{tmp_path}/socket\n"
        process.terminate()
    assert process.returncode == 0


def test_flag_turns_off_what_the_file_turns_on(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("memory = true")
    with serve("--config", str(file), "--no-memory", "--data-dir", f"{tmp_path}/data"):
        assert (tmp_path / "data").is_dir()
