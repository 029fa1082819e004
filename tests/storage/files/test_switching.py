"""How soon threads change while jobs compute beside the loop."""

import sys
import threading

import pytest

from durable_streams_server.storage.files.switching import SOON, Switching

USUAL = sys.getswitchinterval()


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=1e-6)  # Python rounds the interval down to microseconds


def test_threads_change_sooner_while_a_job_runs() -> None:
    with Switching().soon():
        assert sys.getswitchinterval() == about(SOON)
    assert sys.getswitchinterval() == about(USUAL)


def test_a_job_that_fails_restores_the_usual_time() -> None:
    with pytest.raises(ZeroDivisionError), Switching().soon():
        raise ZeroDivisionError
    assert sys.getswitchinterval() == about(USUAL)


def test_the_last_of_several_jobs_restores_the_usual_time() -> None:
    switching = Switching()
    entered, leave = threading.Event(), threading.Event()

    def job() -> None:
        with switching.soon():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=job)
    with switching.soon():
        other.start()
        assert entered.wait(10)
    assert sys.getswitchinterval() == about(SOON)
    leave.set()
    other.join(10)
    assert sys.getswitchinterval() == about(USUAL)


def test_a_host_that_changes_threads_sooner_still_keeps_its_own_time() -> None:
    sys.setswitchinterval(SOON / 5)
    try:
        with Switching().soon():
            assert sys.getswitchinterval() == about(SOON / 5)
        assert sys.getswitchinterval() == about(SOON / 5)
    finally:
        sys.setswitchinterval(USUAL)
