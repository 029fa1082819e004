"""Workers of pull-wake subscriptions in one thread. Each worker repeatedly appends to its own stream, claims the wake, and ends it."""

import json
import select
import time
from typing import Final, NamedTuple

from .client import connect, create, octets, pop_message
from .subscribing import JSON, ROOT, acknowledgement, control, pull_wakes

_OCTETS: Final = "application/octet-stream"
_PATIENCE: Final = 10.0  # seconds without a response, after which the run fails


class Worked(NamedTuple):
    """The result of workers.

    Attributes:
        ended: the number of wakes that ended within the time.
        bad: the number of refused requests.
        cpu: the CPU seconds that the workers used.
    """

    ended: int
    bad: int
    cpu: float


class _Worker:
    """A worker with its own connection."""

    def __init__(self, port: int, number: int) -> None:
        self.number = number
        self.socket = connect(port)
        self.buffer = bytearray()
        self.append = octets("POST", _own(number), _OCTETS, b"x" * 100)
        worker = b'{"worker":"w%d"}' % number
        self.claim = octets("POST", control(number, "claim"), JSON, worker)
        self.asked = b""  # the request that was sent last

    def ask(self, request: bytes) -> None:
        """Sends a request."""
        self.asked = request
        self.socket.sendall(request)


def prepare(port: int, count: int) -> None:
    """Creates a subscription and a stream for each of `count` workers."""
    pull_wakes(port, count, stream="own/#")
    create(port, map(_own, range(count)), _OCTETS)


def work(port: int, count: int, seconds: float) -> Worked:
    """Lets workers work for some seconds, and then lets each end its wake, so that this function can be called again."""
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
    """Returns the head and body of a response, or None if it is incomplete."""
    come = worker.socket.recv(65536)
    if not come:
        raise ConnectionError("the server has closed the connection")
    worker.buffer += come
    return pop_message(worker.buffer)
