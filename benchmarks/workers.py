"""Workers of pull-wake subscriptions, all in one thread: each appends to its own stream, claims the wake, ends it, and begins again."""

import json
import select
import time
from typing import Final, NamedTuple

from .client import connect, create, octets, take
from .subscribing import JSON, ROOT, acknowledgement, control, pull_wakes

_OCTETS: Final = "application/octet-stream"
_PATIENCE: Final = 10.0  # seconds without an answer until the server counts as dead


class Worked(NamedTuple):
    """What workers have done: wakes ended within the time, requests refused, and seconds of their core that they used."""

    ended: int
    bad: int
    cpu: float


class _Worker:
    """One worker, on a connection of its own."""

    def __init__(self, port: int, number: int) -> None:
        self.number = number
        self.socket = connect(port)
        self.buffer = bytearray()
        self.append = octets("POST", _own(number), _OCTETS, b"x" * 100)
        worker = b'{"worker":"w%d"}' % number
        self.claim = octets("POST", control(number, "claim"), JSON, worker)
        self.asked = b""  # the latest request

    def ask(self, request: bytes) -> None:
        self.asked = request
        self.socket.sendall(request)


def prepare(port: int, count: int) -> None:
    """Creates the subscriptions and streams of so many workers."""
    pull_wakes(port, count, stream="own/#")
    create(port, map(_own, range(count)), _OCTETS)


def work(port: int, count: int, seconds: float) -> Worked:
    """Lets workers work for a while; each then ends the wake that it has, so that they can be called again."""
    workers = [_Worker(port, number) for number in range(count)]
    by_handle = {worker.socket.fileno(): worker for worker in workers}
    poll = select.epoll()
    used = time.process_time()
    until = time.monotonic() + seconds
    ended = bad = 0
    for worker in workers:
        poll.register(worker.socket.fileno(), select.EPOLLIN)
        worker.ask(worker.append)
    working = count
    while working:
        come = poll.poll(_PATIENCE)
        if not come:
            raise RuntimeError("the workers get no answers")
        in_time = time.monotonic() < until
        for handle, _ in come:
            worker = by_handle[handle]
            answer = _receive(worker)
            if answer is None:
                continue
            head, body = answer
            is_good = head.startswith(b"HTTP/1.1 2")
            bad += not is_good
            if is_good and worker.asked is worker.append:
                worker.ask(worker.claim)
            elif is_good and worker.asked is worker.claim:
                claimed = json.loads(body)
                read = [
                    {"stream": stream["path"], "offset": stream["tail_offset"]}
                    for stream in claimed["streams"]
                ]
                worker.ask(acknowledgement(worker.number, claimed, read))
            else:
                ended += is_good and in_time
                if in_time:
                    worker.ask(worker.append)
                else:
                    working -= 1
    used = time.process_time() - used
    for worker in workers:
        worker.socket.close()
    poll.close()
    return Worked(ended, bad, used)


def _own(number: int) -> str:
    return f"{ROOT}/own/{number}"


def _receive(worker: _Worker) -> tuple[bytes, bytes] | None:
    """Returns an answer's head and body once it is whole."""
    come = worker.socket.recv(65536)
    if not come:
        raise ConnectionError("the server has closed the connection")
    worker.buffer += come
    return take(worker.buffer)
