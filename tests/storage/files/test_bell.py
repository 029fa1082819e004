"""Tests of the bell that wakes the commit thread."""

import os
import sys
import threading

import pytest

from durable_streams_server.storage.files.bell import Bell


@pytest.fixture(params=[sys.platform, "another"])
def bell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bell:
    monkeypatch.setattr(sys, "platform", request.param)
    return Bell()


def test_each_ring_of_bell_ends_one_wait(bell: Bell) -> None:
    for _ in range(3):
        bell.ring()
    for _ in range(3):
        bell.wait()  # would block if a wait before it had used up two rings
    bell.close()


def test_ring_wakes_the_waiting_thread(bell: Bell) -> None:
    heard: list[int] = []

    def listen() -> None:
        for number in range(100):
            bell.wait()
            heard.append(number)
            answered.release()

    answered = threading.Semaphore(0)
    listener = threading.Thread(target=listen)
    listener.start()
    for number in range(100):
        assert len(heard) == number  # the thread has not woken before the bell rings
        bell.ring()
        answered.acquire()
    listener.join()
    bell.close()


def test_descriptors_are_closed_and_not_inherited_by_other_programs(bell: Bell) -> None:
    descriptors = bell._descriptors
    assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
    bell.close()
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
