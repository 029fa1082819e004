"""The command `durable-streams-server`: its default command, its help, and mistyped commands."""

import pytest
from click.testing import CliRunner

from durable_streams_server.cli import main
from tests.process import run


def test_serve_is_the_default_command() -> None:
    shown = run("--port", "70000")
    assert shown.returncode == 2
    assert "'--port'" in shown.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["serv"], "No such command 'serv'. Did you mean 'serve'?"),
        (["chek", "directory"], "No such command 'chek'. Did you mean 'check'?"),
        (["Inspect", "-x"], "No such command 'Inspect'. Did you mean 'inspect'?"),
        (["keys", "rotat", "directory"], "No such command 'rotat'. Did you mean 'rotate'?"),
        (["nonsense"], "No such command 'nonsense'."),
        (["--prot", "1"], "No such option '--prot'. (Did you mean one of: '--host', '--port'?)"),
        (["serve", "--dat-dir", "x"], "No such option '--dat-dir'. Did you mean '--data-dir'?"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_mistyped_command_or_option_prints_similar_names_and_exits_2(
    typed: list[str], meant: str
) -> None:
    shown = run(*typed)
    assert (shown.returncode, shown.stderr, shown.stdout) == (2, f"Error: {meant}\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_commands(flag: str) -> None:
    shown = run(flag)
    assert shown.returncode == 0
    assert {"serve", "check", "inspect", "keys"} <= set(shown.stdout.split())


def test_version_is_printed() -> None:
    shown = CliRunner().invoke(main, ["--version"])
    assert shown.exit_code == 0
    assert "0.1.0" in shown.output
