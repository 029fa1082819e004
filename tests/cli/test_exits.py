"""How commands exit, and the exit codes that the documentation promises."""

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from durable_streams_server import FileBackedStreamStore
from durable_streams_server.cli import main
from durable_streams_server.cli.exits import EXIT_DATA, fail
from tests.process import launch, run, serve

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def test_fail_prints_one_line_and_exits_with_the_given_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        fail("the directory cannot be used", EXIT_DATA)
    assert ended.value.code == EXIT_DATA == 4
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (
        "",
        "durable-streams-server: the directory cannot be used\n",
    )


def test_server_exits_0_after_a_clean_stop(tmp_path: Path) -> None:
    with serve("--data-dir", str(tmp_path)):
        pass  # `serve` checks the code


def test_server_that_cannot_start_exits_1() -> None:
    program = (
        "from durable_streams_server import DurableStreamsApp\n"
        "from durable_streams_server.cli import main\n"
        "def begin(app): raise RuntimeError('no loop')\n"
        "DurableStreamsApp.begin = begin\n"
        "main()\n"
    )
    command = [sys.executable, "-c", program, "serve", "--memory", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stdout) == (1, "")


def test_bad_flag_exits_2() -> None:
    assert run("serve", "--nonsense").returncode == 2


def test_address_in_use_exits_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run("serve", "--memory", "--port", port).returncode == 3


def test_data_directory_in_use_exits_4(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path):
        for command in (["serve", "--data-dir"], ["check"], ["inspect"], ["keys", "list"]):
            assert run(*command, str(tmp_path)).returncode == 4


def test_missing_stream_exits_1(tmp_path: Path) -> None:
    FileBackedStreamStore(tmp_path).close()
    assert run("inspect", str(tmp_path), "/nowhere").returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_exits_with_128_plus_its_number(
    number: signal.Signals, tmp_path: Path
) -> None:
    with launch("--data-dir", str(tmp_path), "--drain", "60") as server:
        server.process.send_signal(signal.SIGTERM)
        while httpx.get(f"{server.url}/readyz").status_code == 200:
            pass  # the signal has not reached the other process yet
        time.sleep(0.1)  # the same signal counts once within a moment
        server.process.send_signal(number)
        assert server.process.wait(10) == 128 + number


def test_documentation_and_help_name_the_same_exit_codes_of_serve() -> None:
    section = PAGE.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| (\d+) \|", section, re.MULTILINE)
    shown = CliRunner().invoke(main, ["serve", "--help"]).output
    codes = re.findall(r"\b\d+\b", shown.partition("Exit codes:")[2])
    assert documented == codes == ["0", "1", "2", "3", "4", "5", "130", "143"]
