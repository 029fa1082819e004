"""Clients that read the streams of producers in every way, and check that they see each value once and in order."""

import json
import random
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any, NamedTuple

from tests.crash.clients import read_all
from tests.soak.remote import Connection, Remote
from tests.soak.writers import Producer

GONE = (404, 410)


class Reader:
    """A client that reads the streams of one producer.

    Args:
        producer: writes the streams.
        remote: the server.
        name: the name of the client.
        seed: determines all choices.
    """

    def __init__(self, producer: Producer, remote: Remote, name: str, seed: str) -> None:
        self._producer = producer
        self._remote = remote
        self._name = name
        self._chance = random.Random(f"{seed} {name}")

    def run(self) -> None:
        """Reads until the clients must stop."""
        self._remote.persist(self.read, self._name)

    def read(self, connection: Connection) -> None:
        """Reads once."""
        raise NotImplementedError


class Follower(Reader):
    """Follows the producer's streams with live reads, each stream from its beginning to its end.

    After a restart, and after each read, it goes on at the offset that it has reached. No value may be missing or come twice.
    """

    def __init__(self, producer: Producer, remote: Remote, name: str, seed: str) -> None:
        super().__init__(producer, remote, name, seed)
        self._follow()

    def _follow(self) -> None:
        """Begins with the producer's present stream."""
        self._path = self._producer.path
        self._offset = "-1"
        self._next = 0

    def take(self, values: list[dict[str, Any]], offset: str) -> None:
        """Takes the values before an offset, and checks their numbers."""
        numbers = [value["n"] for value in values]
        expected = list(range(self._next, self._next + len(numbers)))
        assert numbers == expected, f"{self._path} at {self._offset}: lost, doubled or reordered"
        self._next += len(numbers)
        self._offset = offset
        self._remote.count("values read live", len(numbers))

    def open(self, connection: Connection, live: str) -> HTTPResponse | None:
        """Sends a live read, and returns its response. If the stream is gone, returns None and begins with the next one."""
        connection.request("GET", f"{self._path}?offset={self._offset}&live={live}")
        response = connection.getresponse()
        if response.status not in GONE:
            assert response.status in (200, 204), (response.status, response.read())
            return response
        response.read()
        self._remote.count("live reads of a stream that is gone or not there yet")
        self._remote.sleep(0.02)  # the stream may not have been created yet
        self._follow()
        return None

    def end(self) -> None:
        """Checks that the stream that has just ended was whole, and begins to follow the next one."""
        length = self._producer.lengths.get(self._path, self._next)
        assert self._next == length, f"{self._path} ended at {self._next} instead of {length}"
        self._remote.count("streams followed to their end")
        while self._producer.path == self._path and self._remote.goes_on:
            self._remote.sleep(0.02)  # the producer checks the stream
        self._follow()


class LongPoller(Follower):
    """Follows by long-polls."""

    def read(self, connection: Connection) -> None:
        """Sends one long-poll."""
        response = self.open(connection, "long-poll")
        if response is None:
            return
        body = response.read()
        self.take(json.loads(body or b"[]"), str(response.getheader("stream-next-offset")))
        self._remote.count("long-polls")
        if response.getheader("stream-closed") == "true":
            self.end()


class Event(NamedTuple):
    """A server-sent event."""

    kind: str
    data: str


def events(readline: Callable[[], bytes]) -> Iterator[Event]:
    """Yields the events of a response, whose lines `readline` returns, as they come."""
    kind, data = "", list[str]()
    while line := readline().decode():
        name, _, value = line.rstrip("\n").partition(":")
        if name == "event":
            kind = value.removeprefix(" ")
        elif name == "data":
            data.append(value.removeprefix(" "))
        elif not line.strip() and kind:
            yield Event(kind, "\n".join(data))
            kind, data = "", []


class EventReader(Follower):
    """Follows by event streams."""

    def read(self, connection: Connection) -> None:
        """Reads one event stream up to its end."""
        response = self.open(connection, "sse")
        if response is None:
            return
        values: list[dict[str, Any]] = []
        self._remote.count("event streams")
        for event in events(response.readline):
            if event.kind == "data":
                values += json.loads(event.data)
                continue
            control = json.loads(event.data)
            self.take(values, control["streamNextOffset"])
            values = []
            if control.get("streamClosed"):
                response.read()
                self.end()
                return
            if not self._remote.goes_on:
                return
        assert not values, f"{self._path}: an event stream ended without its last control event"


class CatchUp(Reader):
    """Reads the stream from its beginning, or from the offset that it had reached, and asks for its tail by HEAD."""

    def __init__(self, producer: Producer, remote: Remote, name: str, seed: str) -> None:
        super().__init__(producer, remote, name, seed)
        self._path = ""
        self._tail = ""
        self._tag = ""

    def read(self, connection: Connection) -> None:
        """Reads once in a random way."""
        if self._path != self._producer.path:
            self._path, self._tail, self._tag = self._producer.path, "", ""
        ways: tuple[Callable[[Connection], object], ...] = (self._read_all, self._head, self._poll)
        self._chance.choices(ways, (1, 10, 20))[0](connection)
        self._remote.sleep(self._chance.choice((0, 0, 0.01, 0.1)))

    def _read_all(self, connection: Connection) -> None:
        if not self._head(connection):
            return
        numbers = [value["n"] for value in read_all(connection, self._path)]
        assert numbers == list(range(len(numbers))), f"{self._path}: lost, doubled or reordered"
        self._remote.count("catch-up reads")
        self._remote.count("values read in catch-up", len(numbers))

    def _head(self, connection: Connection) -> bool:
        """Asks for the tail, and returns whether the stream exists."""
        connection.request("HEAD", self._path)
        response = connection.getresponse()
        response.read()
        if response.status in GONE:
            return False
        self._remote.count("HEADs")
        self._advance(response)
        return True

    def _advance(self, response: HTTPResponse) -> None:
        """Takes the tail of a response, which is never before the tail that was known."""
        tail = str(response.getheader("stream-next-offset"))
        assert tail >= self._tail, f"{self._path}: the tail went from {self._tail} back to {tail}"
        self._tail = tail

    def _poll(self, connection: Connection) -> None:
        """Reads from the last known tail, with the entity tag of the read before."""
        if not self._tail:
            self._head(connection)
            return
        headers = {"If-None-Match": self._tag} if self._tag else {}
        connection.request("GET", f"{self._path}?offset={self._tail}", headers=headers)
        response = connection.getresponse()
        body = response.read()
        self._remote.count("polls at the tail")
        if response.status == 304:
            return
        assert response.status == 200, (response.status, body)
        json.loads(body)
        before = self._tail
        self._advance(response)
        self._tag = str(response.getheader("etag") or "") if before == self._tail else ""
