"""The first signal stops a server. A second signal, or a signal during the start, ends the process at once."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from durable_streams_server.http.serving.signals import Signals, StartSignals


def send(number: int) -> None:
    os.kill(os.getpid(), number)


class Record:
    """Handles signals, and records what the handlers are called with."""

    def __init__(self) -> None:
        self.stops: list[int] = []
        self.hangups = 0
        self.signals = Signals(self.stops.append, self._hang_up)

    def _hang_up(self) -> None:
        self.hangups += 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_stops_and_hangups_do_not(number: int) -> None:
    record = Record()
    with record.signals:
        send(signal.SIGHUP)
        send(signal.SIGHUP)
        send(number)
    assert (record.stops, record.hangups) == ([number], 2)


def test_handlers_from_before_are_restored_after_the_outer_block() -> None:
    record = Record()
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with record.signals:
        with record.signals:
            pass
        send(signal.SIGTERM)
    assert record.stops == [signal.SIGTERM]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_other_threads_handle_no_signals() -> None:
    record, found = Record(), []

    def enter() -> None:
        with record.signals:
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]


PROGRAM = """
import os, signal, sys
from durable_streams_server.http.serving.signals import Signals
if sys.argv[2] == "closed":
    os.close(2)
with Signals(lambda number: None, lambda: None, iter([7.0, 7.06]).__next__):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stderr", ["open", "closed"])
def test_second_signal_ends_process_with_128_plus_its_number(number: int, stderr: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number)), stderr],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ended.returncode == 128 + number
    said = "durable-streams-server: a second signal ends the server at once\n"
    assert ended.stderr == (said if stderr == "open" else "")


def test_same_signal_counts_once_within_a_moment() -> None:
    stops: list[int] = []
    times = iter([7.0, 7.01, 7.04])
    with Signals(stops.append, lambda: None, times.__next__):
        for _ in range(3):
            send(signal.SIGTERM)
    assert stops == [signal.SIGTERM]
    assert list(times) == []


def test_other_signal_ends_process_without_a_moment_between() -> None:
    program = PROGRAM.replace("7.06", "7.0")
    ended = subprocess.run([sys.executable, "-c", program, "2", "closed"], timeout=20)
    assert ended.returncode == 128 + signal.SIGINT


def test_second_signal_ends_process_whose_error_output_is_full() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writing, True)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, "15", "open"], stderr=writing)
    assert process.wait(20) == 143
    os.close(reading)
    os.close(writing)


START = """
import os, sys
from durable_streams_server.http.serving.signals import StartSignals
with StartSignals():
    os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_the_start_ends_process_with_128_plus_its_number(number: int) -> None:
    command = [sys.executable, "-c", START, str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 128 + number
    assert ended.stderr == "durable-streams-server: a signal ends the start of the server\n"


def test_hangup_during_the_start_is_remembered() -> None:
    with StartSignals() as start:
        assert not start.has_hung_up
        send(signal.SIGHUP)
        assert start.has_hung_up
