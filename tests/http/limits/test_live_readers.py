"""Only so many live reads run at once: in all, of one stream, and of one client (TRAPS 51)."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from durable_streams_server.errors import NotFound, StreamError
from durable_streams_server.http.limits.live_readers import LiveReaders, Place
from durable_streams_server.protocol.page import Page
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.event_stream import EventStream
from tests.requests import create
from tests.streams.engines import Bench, read


def taken(
    readers: LiveReaders, path: str, client: str | None, per_client: int | None = None
) -> Place | tuple[int, str, bytes]:
    """Returns a place, or the status, the code and the Retry-After of the refusal."""
    try:
        return readers.take(path, client, per_client)
    except StreamError as error:
        return error.status, error.code, dict(error.headers)[b"retry-after"]


@pytest.mark.parametrize(
    ("limits", "path", "client", "expected"),
    [
        ((2, 9, 9), "/b", "b", (503, "TOO_MANY_LIVE_READERS", b"1")),
        ((9, 2, 9), "/a", "b", (429, "TOO_MANY_READERS_OF_STREAM", b"1")),
        ((9, 9, 2), "/b", "a", (429, "TOO_MANY_READERS_OF_CLIENT", b"1")),
    ],
)
def test_live_read_above_a_limit_is_refused_until_a_place_is_free(
    limits: tuple[int, int, int], path: str, client: str, expected: tuple[int, str, bytes]
) -> None:
    readers = LiveReaders(*limits)
    first, second = readers.take("/a", "a"), readers.take("/a", "a")
    assert taken(readers, path, client) == expected
    assert (readers.used, readers.refused) == (2, 1)
    first.give_back()
    third = taken(readers, path, client)
    assert isinstance(third, Place)
    second.give_back()
    third.give_back()
    assert (readers.used, readers.most_of_one_stream, readers.most_of_one_client) == (0, 0, 0)


def test_limit_of_a_client_replaces_the_default() -> None:
    readers = LiveReaders(9, 9, 1)
    readers.take("/a", "a", 2)
    readers.take("/a", "a", 2)
    assert taken(readers, "/a", "a", 2) == (429, "TOO_MANY_READERS_OF_CLIENT", b"1")
    readers.take("/a", "b")
    assert taken(readers, "/a", "b") == (429, "TOO_MANY_READERS_OF_CLIENT", b"1")
    assert (readers.most_of_one_stream, readers.most_of_one_client) == (3, 2)


def test_client_without_a_key_has_no_limit_of_its_own() -> None:
    readers = LiveReaders(3, 9, 1)
    for _ in range(3):
        readers.take("/a", None)
    assert taken(readers, "/a", None) == (503, "TOO_MANY_LIVE_READERS", b"1")
    assert readers.most_of_one_client == 0


def test_place_is_given_back_once() -> None:
    readers = LiveReaders(9, 9, 9)
    first, second = readers.take("/a", "a"), readers.take("/a", "a")
    first.give_back()
    first.give_back()
    assert readers.used == 1
    second.give_back()
    assert readers.used == 0


def fail() -> Ticket[Page]:
    raise OSError("the disk is gone")


@pytest.mark.parametrize("end", ["resolve", "fail", "cancel", "raise"])
def test_long_poll_gives_its_place_back_at_every_end(end: str) -> None:
    readers = LiveReaders(9, 9, 9)
    place = readers.take("/a", "a")
    if end == "raise":
        with pytest.raises(OSError, match="disk"):
            place.hold_for(fail)
        assert readers.used == 0
        return
    ticket: Ticket[Page] = Ticket()
    assert place.hold_for(lambda: ticket) is ticket
    assert readers.used == 1
    if end == "cancel":
        ticket.cancel()
    elif end == "fail":
        ticket.fail(NotFound("no such stream"))
    else:
        ticket.resolve(None)  # type: ignore[arg-type]  # the page is not looked at
    assert readers.used == 0


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("end", ["close", "close twice", "fail", "cancel"])
async def test_event_stream_gives_its_place_back_at_every_end(is_late: bool, end: str) -> None:
    bench = Bench()
    bench.engine.start()
    bench.engine.create(create("/a", "text/plain", b"x")).result()
    readers = LiveReaders(9, 9, 9)
    opened: Ticket[EventStream] = Ticket()

    def finish() -> None:
        if end == "fail":
            opened.fail(NotFound("no such stream"))
        elif end == "cancel":
            opened.cancel()
        else:
            opened.resolve(bench.engine.events(read("/a", live="sse"), lambda: None).result())

    if not is_late:
        finish()
    ticket = readers.take("/a", "a").hold_for_events(lambda: opened)
    if is_late:
        assert readers.used == 1
        finish()
    assert readers.used == (1 if end.startswith("close") else 0)
    for _ in range({"close": 1, "close twice": 2}.get(end, 0)):
        ticket.result().close()
    assert readers.used == 0


class Machine(RuleBasedStateMachine):
    """Compares the counts with those of the live reads that the machine knows to run."""

    places = Bundle("places")

    def __init__(self) -> None:
        super().__init__()
        self.readers = LiveReaders(6, 4, 3)
        self.running: list[tuple[str, str | None]] = []

    @rule(target=places, path=st.sampled_from("abc"), client=st.sampled_from(["x", "y", None]))
    def begin(self, path: str, client: str | None) -> tuple[Ticket[Page], str, str | None] | None:
        of_stream = sum(1 for one, _ in self.running if one == path)
        of_client = sum(1 for _, one in self.running if one == client)
        fits = len(self.running) < 6 and of_stream < 4 and (client is None or of_client < 3)
        found = taken(self.readers, path, client)
        assert isinstance(found, Place) is fits
        if not isinstance(found, Place):
            return None
        self.running.append((path, client))
        ticket: Ticket[Page] = Ticket()
        found.hold_for(lambda: ticket)
        return ticket, path, client

    @rule(place=consumes(places), how=st.sampled_from(["cancel", "fail", "twice"]))
    def end(self, place: tuple[Ticket[Page], str, str | None] | None, how: str) -> None:
        if place is None:
            return
        ticket, path, client = place
        if how != "fail":
            ticket.cancel()
        if how != "cancel":
            ticket.fail(NotFound("no such stream"))
        self.running.remove((path, client))

    @invariant()
    def counts_match(self) -> None:
        assert self.readers.used == len(self.running)
        assert self.readers._of_streams == Counter(path for path, _ in self.running)
        assert self.readers._of_clients == Counter(c for _, c in self.running if c is not None)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=50)
