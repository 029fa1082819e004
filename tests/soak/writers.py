"""Clients that write numbered values, check each stream when it is full, and go on with the next one.

A stream has a path of its own in each generation. When it is full, its writer closes it, checks all of it, and deletes the stream of the
generation before, so that readers have time to see the end. So the data of a soak is bounded however long it takes.
"""

import hashlib
import json
import random
from typing import ClassVar

from tests.crash.clients import JSON, Churner, Writer, ask, read_all
from tests.soak.remote import Connection, Refused, Remote

ROOT = "/v1/stream/soak"
OCTETS = {"Content-Type": "application/octet-stream"}
KIB = 1024


class Generations:
    """Streams that a client writes one after another.

    Args:
        remote: the server.
        name: the name of the client, which is part of the paths.
        seed: determines all choices.
        pace: seconds between two appends.

    Attributes:
        path: the path of the present stream.
        lengths: the number of values in each stream that has been closed, by its path.
    """

    #: Appends to one stream.
    size: ClassVar[int] = 2_000
    media: ClassVar[dict[str, str]] = JSON

    def __init__(self, remote: Remote, name: str, seed: str, pace: float = 0.0) -> None:
        self.remote = remote
        self.name = name
        self.chance = random.Random(f"{seed} {name}")
        self._pace = pace
        self._generation = 0
        self._old = ""
        self.lengths: dict[str, int] = {}
        self._begin()

    def run(self) -> None:
        """Writes until the clients must stop."""
        self.remote.persist(self._act, self.name)

    def finish(self, connection: Connection) -> None:
        """Checks the present stream, and deletes all streams."""
        if self._exists:
            self.check(connection)
        for path in filter(None, (self._old, self.path)):
            self._delete(connection, path)

    def write(self, connection: Connection) -> None:
        """Appends once."""
        raise NotImplementedError

    def check(self, connection: Connection) -> None:
        """Checks that the stream has every acknowledged append once and in order."""
        raise NotImplementedError

    @property
    def written(self) -> int:
        """The number of appends that the stream has for sure."""
        raise NotImplementedError

    def length(self) -> int:
        """Returns the number of values that the stream has for sure."""
        return self.written

    def begin(self) -> None:
        """Forgets the values of the previous stream."""
        raise NotImplementedError

    def _begin(self) -> None:
        self.path = f"{ROOT}/{self.name}/{self._generation}"
        self._exists = self._is_closed = self._is_checked = False
        self.begin()

    def _act(self, connection: Connection) -> None:
        """Takes one step. Each step can be repeated if nobody knows whether it was done."""
        if not self._exists:
            assert ask(connection, "PUT", self.path, None, self.media)[0] in (200, 201)
            self._exists = True
        elif self.written < self.size:
            before = self.written
            self.write(connection)
            self.remote.count("appends acknowledged", self.written - before)
            if self._pace:
                self.remote.sleep(self._pace * self.chance.uniform(0.5, 1.5))
        elif not self._is_closed:
            status, body = ask(connection, "POST", self.path, None, {"Stream-Closed": "true"})
            assert status in (200, 204), body
            self.lengths[self.path] = self.length()
            self._is_closed = True
        elif not self._is_checked:
            self.check(connection)
            self.remote.count("streams checked")
            self._is_checked = True
        else:
            if self._old:
                self._delete(connection, self._old)
                self.lengths.pop(self._old, None)
            self._old = self.path
            self._generation += 1
            self._begin()

    def _delete(self, connection: Connection, path: str) -> None:
        status, body = ask(connection, "DELETE", path)
        assert status in (200, 204, 404), body


class Producer(Generations):
    """Appends with a producer, and repeats an append whose outcome it does not know."""

    def begin(self) -> None:
        """Begins with a producer that has sent nothing."""
        self._writer = Writer(self.path)

    @property
    def written(self) -> int:
        """The number of acknowledged values."""
        return self._writer.acknowledged

    def write(self, connection: Connection) -> None:
        """Appends the next value."""
        self._writer.write(connection)

    def check(self, connection: Connection) -> None:
        """Reads the whole stream."""
        self._writer.check(connection)


class Batches(Generations):
    """Appends batches of values without a producer. If it does not know the outcome of an append, it goes on with the next batch."""

    size = 500

    def begin(self) -> None:
        """Begins with no batch."""
        self._next = 0
        self._sizes: dict[int, int] = {}  # of all batches that were sent
        self._acknowledged: set[int] = set()

    @property
    def written(self) -> int:
        """The number of acknowledged batches."""
        return len(self._acknowledged)

    def write(self, connection: Connection) -> None:
        """Appends the next batch."""
        number, size = self._next, self.chance.choice((1, 2, 10, 50))
        values = [{"b": number, "i": index, "pad": "x" * 40} for index in range(size)]
        connection.request("POST", self.path, json.dumps(values), JSON)
        self._next += 1
        self._sizes[number] = size
        try:
            response = connection.getresponse()
        except Refused:
            self._next -= 1
            raise
        assert response.status in (200, 204), response.read()
        response.read()
        self._acknowledged.add(number)

    def check(self, connection: Connection) -> None:
        """Reads the whole stream, and compares it with the batches that were sent."""
        self.compare(read_all(connection, self.path))

    def compare(self, values: list[dict[str, int]]) -> None:
        """Checks that each batch is whole, in order and there at most once, and that every acknowledged batch is there."""
        found = sorted({value["b"] for value in values})
        expected = [(number, index) for number in found for index in range(self._sizes[number])]
        assert [(value["b"], value["i"]) for value in values] == expected, (
            f"{self.path}: doubled, torn or out of order"
        )
        lost = self._acknowledged.difference(found)
        assert not lost, f"{self.path}: lost the batches {sorted(lost)[:10]}"


class LargeBodies(Generations):
    """Appends bodies of 64 KiB to 4 MiB with a producer, and compares the hash of the stream with that of the bodies."""

    size = 24
    media = OCTETS

    def begin(self) -> None:
        """Begins with no body."""
        self._written = 0
        self._sum = hashlib.sha256()
        self._body = b""

    @property
    def written(self) -> int:
        """The number of acknowledged bodies."""
        return self._written

    def write(self, connection: Connection) -> None:
        """Appends the next body, or the same as before if its outcome is not known."""
        if not self._body:
            size = self.chance.choice((64, 256, 1024, 4096)) * KIB + self.chance.randint(0, 99)
            self._body = self.chance.randbytes(size)
        stamp = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": str(self._written)}
        status, said = ask(connection, "POST", self.path, self._body, {**OCTETS, **stamp})
        assert status in (200, 204), said
        self._sum.update(self._body)
        self._written, self._body = self._written + 1, b""

    def check(self, connection: Connection) -> None:
        """Reads the whole stream. A body whose outcome is not known may be at its end."""
        found = hashlib.sha256()
        maybe = self._sum.copy()
        maybe.update(self._body)
        offset, is_at_end = "-1", False
        while not is_at_end:
            connection.request("GET", f"{self.path}?offset={offset}")
            response = connection.getresponse()
            page = response.read()
            found.update(page)
            self.remote.count("bytes read", len(page))
            offset = str(response.getheader("stream-next-offset"))
            is_at_end = response.getheader("stream-up-to-date") is not None
        assert found.digest() in (self._sum.digest(), maybe.digest()), f"{self.path}: other bytes"


class Churn:
    """Creates, forks, closes and deletes streams, and begins again when it has created many.

    Args:
        remote: the server.
        name: the name of the client, which is part of the paths.
        seed: determines all choices.
    """

    size = 150

    def __init__(self, remote: Remote, name: str, seed: str) -> None:
        self._remote = remote
        self._name = name
        self._chance = random.Random(f"{seed} {name}")
        self._generation = 0
        self._churner = Churner(f"{ROOT}/{name}/0")

    def run(self) -> None:
        """Sends requests until the clients must stop."""
        self._remote.persist(self._act, self._name)

    def finish(self, connection: Connection) -> None:
        """Checks all streams, and deletes them."""
        churner = self._churner
        churner.check(connection)
        churner.expected.clear()  # a repetition of this step must not miss what this one deletes
        for number in range(1, churner.number + 1):
            status, body = ask(connection, "DELETE", f"{churner.prefix}/{number}")
            assert status in (200, 204, 404, 410), body

    def _act(self, connection: Connection) -> None:
        if self._churner.number < self.size:
            self._churner.churn(connection, self._chance)
            self._remote.count("creates, forks, closes and deletes")
            self._remote.sleep(0.005)
            return
        self.finish(connection)
        self._generation += 1
        self._churner = Churner(f"{ROOT}/{self._name}/{self._generation}")
