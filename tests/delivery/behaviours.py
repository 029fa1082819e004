"""What a receiver may do with a delivery. Each function is one way, and `WAYS` says how often each is drawn."""

import contextlib
import gzip
import json
import random
import select
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from tests.delivery.asking import Asker
from tests.delivery.history import Answered, Answering
from tests.delivery.world import Grant

DONE = json.dumps({"done": True}).encode()
BOM = b"\xef\xbb\xbf"


class Talk:
    """One delivery and everything that can be done about it.

    Args:
        handler: has the connection.
        number: of the delivery in the history.
        lease: in seconds.
    """

    def __init__(
        self,
        handler: BaseHTTPRequestHandler,
        number: int,
        grant: Grant,
        lease: float,
        asker: Asker,
        chance: random.Random,
    ) -> None:
        self._handler = handler
        self._number = number
        self.grant = grant
        self.lease = lease
        self.asker = asker
        self.chance = chance

    def answer(
        self, how: str, status: int = 200, body: bytes = b"{}", coding: str | None = None
    ) -> None:
        """Answers the delivery; afterwards the connection ends, so the thread may go on with the work."""
        handler = self._handler
        self._note(how)
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
        self.asker.history.add(Answered, number=self._number)

    def cut(self) -> None:
        """Ends the connection without an answer."""
        self._note("cut")
        self._handler.close_connection = True
        with contextlib.suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)

    def is_open(self) -> bool:
        """Whether the server still has the connection."""
        connection = self._handler.connection
        try:
            if not select.select([connection], [], [], 0)[0]:
                return True
            return bool(connection.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError):
            return False

    def sleep(self, leases: float) -> None:
        """Sleeps for a number of leases."""
        self.asker.sleep(leases * self.lease)

    def beat(self) -> bool:
        """Renews the lease; returns whether the server has taken it."""
        return self.asker.acknowledge(self.grant, (), False).status == 200

    def finish(self) -> None:
        """Acknowledges all or a part, and ends the wake."""
        asker = self.asker
        acks = asker.whole(self.grant)
        if self.chance.random() < 0.4:
            acks = asker.part(self.grant, self.chance)
        asker.acknowledge(self.grant, acks, True)

    def _note(self, how: str) -> None:
        self.asker.history.add(Answering, number=self._number, how=how, is_open=self.is_open())


def done(talk: Talk) -> None:
    """Is done at once."""
    talk.answer("done", body=DONE)


def calls_back(talk: Talk) -> None:
    """Acknowledges by callback, perhaps in two steps."""
    talk.answer("taken")
    if talk.chance.random() < 0.4:
        talk.asker.acknowledge(talk.grant, talk.asker.part(talk.grant, talk.chance), False)
    talk.finish()


def works_on(talk: Talk) -> None:
    """Answers 202, sends heartbeats, and acknowledges later than the first lease would have ended."""
    talk.answer("taken", 202)
    for _ in range(talk.chance.randint(1, 3)):
        talk.sleep(0.5)
        if not talk.beat():
            return
    talk.finish()


def beats_before_done(talk: Talk) -> None:
    """Keeps the delivery waiting for two and a half leases, with heartbeats, and is done then."""
    for _ in range(5):
        talk.sleep(0.45)
        if not talk.beat():
            break
    talk.sleep(0.25)
    talk.answer("done", body=DONE)


def fails(talk: Talk) -> None:
    """Answers with an error."""
    talk.answer("failed", talk.chance.choice((500, 503, 404)))


def is_slow(talk: Talk) -> None:
    """Answers that the work is done, but only after the lease has run out."""
    talk.sleep(1.4)
    talk.answer("done", body=DONE)


def is_silent(talk: Talk) -> None:
    """Never answers, and hangs up once the server has."""
    for _ in range(30):
        talk.sleep(0.1)
        if not talk.is_open():
            break
    talk.cut()


def cuts(talk: Talk) -> None:
    """Hangs up without an answer."""
    talk.cut()


def zips(talk: Talk) -> None:
    """Is done, in an answer compressed with gzip."""
    talk.answer("gzip", body=gzip.compress(DONE, 1), coding="gzip")


def marks(talk: Talk) -> None:
    """Is done, in an answer that begins with a byte order mark."""
    talk.answer("bom", body=BOM + DONE)


def does_nothing(talk: Talk) -> None:
    """Ends the wake without an acknowledgement, and then answers with an error or with success."""
    if talk.chance.random() < 0.5:
        talk.asker.acknowledge(talk.grant, (), True)
        talk.answer("failed", 500)
    else:
        talk.answer("taken")
        talk.asker.acknowledge(talk.grant, (), True)


def vanishes(talk: Talk) -> None:
    """Takes the wake and is not heard of again, or too late."""
    talk.answer("taken", 202)
    if talk.chance.random() < 0.6:
        talk.sleep(1.7)
        talk.finish()


def repeats(talk: Talk) -> None:
    """Ends the wake, and then uses its token again."""
    talk.answer("taken")
    talk.finish()
    talk.asker.acknowledge(talk.grant, talk.asker.whole(talk.grant), talk.chance.random() < 0.5)


WAYS: dict[Callable[[Talk], None], float] = {
    done: 6,
    calls_back: 4,
    works_on: 2,
    beats_before_done: 1,
    fails: 2,
    is_slow: 1,
    is_silent: 0.7,
    cuts: 1,
    zips: 1,
    marks: 1,
    does_nothing: 2.5,
    vanishes: 1,
    repeats: 1.5,
}
#: Ways after which the cursor has not moved; no more than three of them come in a row, or a trial would wait for minutes.
FRUITLESS = {fails, is_slow, is_silent, cuts, does_nothing, vanishes}
MOST_FRUITLESS = 3


class Choice:
    """Draws the ways of one subscription, from the seed and the number of the delivery alone."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._chance = random.Random(seed)
        self._count = 0
        self._fruitless = 0

    def next(self) -> tuple[Callable[[Talk], None], random.Random]:
        """Returns a way and what it draws from."""
        self._count += 1
        ways = dict(WAYS)
        if self._fruitless >= MOST_FRUITLESS:
            ways = {way: weight for way, weight in ways.items() if way not in FRUITLESS}
        elif self._fruitless:  # runs of them are what is interesting
            ways[does_nothing] += 4
        way = self._chance.choices(list(ways), list(ways.values()))[0]
        self._fruitless = self._fruitless + 1 if way in FRUITLESS else 0
        return way, random.Random(f"{self._seed} {self._count}")
