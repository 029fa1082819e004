"""Tests of the switch interval while jobs run beside the event loop."""

import sys
import threading

import pytest

from durable_streams_server.storage.files.switching import SHORT, Switching

USUAL = sys.getswitchinterval()


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=1e-6)  # Python rounds the interval down to microseconds


def test_thread_switch_interval_is_shortened_while_job_runs() -> None:
    switching = Switching()
    switching.begin()
    assert sys.getswitchinterval() == about(SHORT)
    switching.end()
    assert sys.getswitchinterval() == about(USUAL)


def test_last_running_job_restores_thread_switch_interval() -> None:
    switching = Switching()
    switching.begin()
    switching.begin()
    other = threading.Thread(target=switching.end)
    other.start()
    other.join(10)
    assert sys.getswitchinterval() == about(SHORT)
    switching.end()
    assert sys.getswitchinterval() == about(USUAL)


def test_thread_switch_interval_that_is_already_shorter_is_not_changed() -> None:
    switching = Switching()
    sys.setswitchinterval(SHORT / 5)
    try:
        switching.begin()
        assert sys.getswitchinterval() == about(SHORT / 5)
        switching.end()
        assert sys.getswitchinterval() == about(SHORT / 5)
    finally:
        sys.setswitchinterval(USUAL)
