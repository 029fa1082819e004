"""The ways in which a receiver of a trial handles a delivery.

Each function is one way. `WAYS` holds the weight with which each way is drawn.
"""

import contextlib
import gzip
import json
import random
import select
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from tests.delivery.history import Answered, Answering
from tests.delivery.requester import Requester
from tests.delivery.world import Grant

DONE = json.dumps({"done": True}).encode()
BOM = b"\xef\xbb\xbf"


class Exchange:
    """One delivery, and the actions that its receiver can take.

    Args:
        handler: the HTTP handler of the request, which has the connection.
        number: the number of the delivery in the history.
        grant: the token of the wake.
        lease: the seconds of the lease.
        requester: sends callbacks.
        chance: makes the choices of this delivery.
    """

    def __init__(
        self,
        handler: BaseHTTPRequestHandler,
        number: int,
        grant: Grant,
        lease: float,
        requester: Requester,
        chance: random.Random,
    ) -> None:
        self._handler = handler
        self._number = number
        self.grant = grant
        self.lease = lease
        self.requester = requester
        self.chance = chance

    def answer(
        self, how: str, status: int = 200, body: bytes = b"{}", coding: str | None = None
    ) -> None:
        """Answers the delivery and closes the connection. The thread may continue to work on the wake afterwards."""
        handler = self._handler
        self._record(how)
        handler.close_connection = True
        try:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            handler.send_header("Connection", "close")
            if coding is not None:
                handler.send_header("Content-Encoding", coding)
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            return
        self.requester.history.add(Answered, number=self._number)

    def cut(self) -> None:
        """Closes the connection without an answer."""
        self._record("cut")
        self._handler.close_connection = True
        with contextlib.suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)

    def is_open(self) -> bool:
        """Returns False if the server has closed the connection."""
        connection = self._handler.connection
        try:
            if not select.select([connection], [], [], 0)[0]:
                return True
            return bool(connection.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError):
            return False

    def sleep(self, leases: float) -> None:
        """Sleeps for a number of leases."""
        self.requester.sleep(leases * self.lease)

    def send_heartbeat(self) -> bool:
        """Renews the lease, and returns whether the server has accepted the heartbeat."""
        return self.requester.acknowledge(self.grant, (), False).status == 200

    def finish(self) -> None:
        """Acknowledges all or some of the streams, and ends the wake."""
        requester = self.requester
        acks = requester.all_acks(self.grant)
        if self.chance.random() < 0.4:
            acks = requester.some_acks(self.grant, self.chance)
        requester.acknowledge(self.grant, acks, True)

    def _record(self, how: str) -> None:
        self.requester.history.add(Answering, number=self._number, how=how, is_open=self.is_open())


def answer_done(exchange: Exchange) -> None:
    """Answers immediately that the work is done."""
    exchange.answer("done", body=DONE)


def acknowledge_by_callback(exchange: Exchange) -> None:
    """Acknowledges by one or two callbacks after the answer."""
    exchange.answer("taken")
    if exchange.chance.random() < 0.4:
        exchange.requester.acknowledge(
            exchange.grant, exchange.requester.some_acks(exchange.grant, exchange.chance), False
        )
    exchange.finish()


def answer_202_and_work(exchange: Exchange) -> None:
    """Answers 202, renews the lease with heartbeats, and acknowledges at the end."""
    exchange.answer("taken", 202)
    for _ in range(exchange.chance.randint(1, 3)):
        exchange.sleep(0.5)
        if not exchange.send_heartbeat():
            return
    exchange.finish()


def answer_done_after_heartbeats(exchange: Exchange) -> None:
    """Sends heartbeats for two and a half leases, and then answers that the work is done."""
    for _ in range(5):
        exchange.sleep(0.45)
        if not exchange.send_heartbeat():
            break
    exchange.sleep(0.25)
    exchange.answer("done", body=DONE)


def answer_with_error(exchange: Exchange) -> None:
    """Answers with an error status."""
    exchange.answer("failed", exchange.chance.choice((500, 503, 404)))


def answer_done_too_late(exchange: Exchange) -> None:
    """Answers that the work is done after the lease has expired."""
    exchange.sleep(1.4)
    exchange.answer("done", body=DONE)


def never_answer(exchange: Exchange) -> None:
    """Never answers. Closes the connection once the server has closed it, or after three leases."""
    for _ in range(30):
        exchange.sleep(0.1)
        if not exchange.is_open():
            break
    exchange.cut()


def close_without_answer(exchange: Exchange) -> None:
    """Closes the connection without an answer."""
    exchange.cut()


def answer_done_with_gzip(exchange: Exchange) -> None:
    """Answers that the work is done, in a body compressed with gzip."""
    exchange.answer("gzip", body=gzip.compress(DONE, 1), coding="gzip")


def answer_done_with_byte_order_mark(exchange: Exchange) -> None:
    """Answers that the work is done, in a body that begins with a byte order mark."""
    exchange.answer("bom", body=BOM + DONE)


def end_without_progress(exchange: Exchange) -> None:
    """Ends the wake without acknowledging any offset, and answers before or after that."""
    if exchange.chance.random() < 0.5:
        exchange.requester.acknowledge(exchange.grant, (), True)
        exchange.answer("failed", 500)
    else:
        exchange.answer("taken")
        exchange.requester.acknowledge(exchange.grant, (), True)


def disappear(exchange: Exchange) -> None:
    """Answers 202, and acknowledges never or after the lease has expired."""
    exchange.answer("taken", 202)
    if exchange.chance.random() < 0.6:
        exchange.sleep(1.7)
        exchange.finish()


def reuse_token(exchange: Exchange) -> None:
    """Ends the wake by callback, and then sends another callback with the same token."""
    exchange.answer("taken")
    exchange.finish()
    exchange.requester.acknowledge(
        exchange.grant, exchange.requester.all_acks(exchange.grant), exchange.chance.random() < 0.5
    )


WAYS: dict[Callable[[Exchange], None], float] = {
    answer_done: 6,
    acknowledge_by_callback: 4,
    answer_202_and_work: 2,
    answer_done_after_heartbeats: 1,
    answer_with_error: 2,
    answer_done_too_late: 1,
    never_answer: 0.7,
    close_without_answer: 1,
    answer_done_with_gzip: 1,
    answer_done_with_byte_order_mark: 1,
    end_without_progress: 2.5,
    disappear: 1,
    reuse_token: 1.5,
}
#: Fruitless ways, which move no cursor.
FRUITLESS = {
    answer_with_error,
    answer_done_too_late,
    never_answer,
    close_without_answer,
    end_without_progress,
    disappear,
}
#: Maximum fruitless ways in a row. After more failures, the backoff of the server would last for minutes.
MOST_FRUITLESS = 3


class Choice:
    """Draws the way in which the receiver handles each delivery of one subscription.

    The result depends only on the seed and on the number of the delivery.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._chance = random.Random(seed)
        self._count = 0
        self._fruitless = 0

    def next(self) -> tuple[Callable[[Exchange], None], random.Random]:
        """Returns the way of the next delivery, and the random generator for its choices."""
        self._count += 1
        ways = dict(WAYS)
        if self._fruitless >= MOST_FRUITLESS:
            ways = {way: weight for way, weight in ways.items() if way not in FRUITLESS}
        elif self._fruitless:  # several fruitless ways in a row find more bugs
            ways[end_without_progress] += 4
        way = self._chance.choices(list(ways), list(ways.values()))[0]
        self._fruitless = self._fruitless + 1 if way in FRUITLESS else 0
        return way, random.Random(f"{self._seed} {self._count}")
