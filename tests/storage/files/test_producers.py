"""Tests of producer states, which stay in memory until a checkpoint writes them and are then looked up in the catalog."""

import msgspec
import pytest

from durable_streams_server.errors import SequenceGap, TooManyRequests
from durable_streams_server.protocol.decisions.outcomes import AppendOutcome
from durable_streams_server.protocol.producers import ProducerState, Stamp
from durable_streams_server.storage.files.catalog.entries import UNCOUNTED
from durable_streams_server.storage.files.catalog.tables import seal
from durable_streams_server.storage.files.producers import StoredProducers, Tally
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.testing.catalog import SimulatedCatalog
from tests.requests import append, create
from tests.storage.files.stores import new_disk, open_store, run


class Shelf:
    """A catalog of producers that counts its look-ups.

    Args:
        count: the number of producers.
    """

    def __init__(self, count: int = 0) -> None:
        self.kept = {b"p%d" % number: ProducerState(0, number) for number in range(count)}
        self.asked = 0

    def producer(self, _: int, name: bytes, /) -> ProducerState | None:
        self.asked += 1
        return self.kept.get(name)

    def producers(self, _: int, /) -> dict[bytes, ProducerState]:
        return dict(self.kept)

    def count_producers(self, _: int, /) -> int:
        return len(self.kept)


def stamped(producer: bytes, seq: int = 0) -> Stamp:
    return Stamp(producer, 0, seq)


def is_duplicate(store: FileStore, stamp: Stamp) -> bool:
    (outcome,) = run(store, append("/a", b"x", stamp=stamp))
    assert isinstance(outcome, AppendOutcome)
    return not outcome.wrote


def test_stream_without_producers_looks_up_nothing_in_catalog() -> None:
    shelf = Shelf()
    producers = StoredProducers(shelf, 1, 0, Tally())
    assert producers.get(b"p") is None
    producers[b"p"] = ProducerState(0, 0)
    assert (producers[b"p"], len(producers), shelf.asked) == (ProducerState(0, 0), 1, 0)


@pytest.mark.parametrize("count", [3, None])
def test_update_of_known_producer_does_not_change_number_of_producers(count: int | None) -> None:
    producers = StoredProducers(Shelf(3), 1, count, Tally())
    producers[b"p1"] = ProducerState(0, 5)
    producers[b"q"] = ProducerState(0, 0)
    producers[b"q"] = ProducerState(0, 1)
    assert producers.get(b"r") is None
    producers[b"r"] = ProducerState(0, 0)
    producers.take_fresh()
    producers[b"r"] = ProducerState(0, 1)
    assert len(producers) == 5


def test_producer_states_are_written_again_after_failed_checkpoint() -> None:
    tally = Tally()
    producers = StoredProducers(Shelf(), 1, 0, tally)
    producers[b"p"] = ProducerState(0, 0)
    producers[b"q"] = ProducerState(0, 0)
    tally.take()
    taken = dict(producers.take_fresh())
    producers[b"q"] = ProducerState(0, 1)
    assert (taken[b"q"], producers[b"q"], producers[b"p"]) == ((0, 0), (0, 1), (0, 0))
    producers.give_back()
    tally.end(is_written=False)
    assert producers.take_fresh() == {b"p": (0, 0), b"q": (0, 1)}
    assert tally.all == 3


def test_written_producer_states_are_not_kept_in_memory() -> None:
    store = open_store(new_disk())
    run(store, create("/a"), *(append("/a", b"x", stamp=stamped(b"p%d" % n)) for n in range(50)))
    assert store.states.tally.all == 50
    store.run_checkpoint()
    state = store.find("/a").result()
    assert state is not None
    assert isinstance(state.producers, StoredProducers)
    assert (state.producers._fresh, state.producers._taken) == ({}, None)
    assert store.states.tally.all == 0
    assert is_duplicate(store, stamped(b"p7"))
    assert not is_duplicate(store, stamped(b"p7", 1))
    with pytest.raises(SequenceGap):
        is_duplicate(store, stamped(b"p8", 2))


def test_producer_limit_is_exact_after_a_restart_and_an_upgrade() -> None:
    disk = new_disk()
    store = open_store(disk, max_producers=3)
    run(store, create("/a"), *(append("/a", b"x", stamp=stamped(b"p%d" % n)) for n in range(3)))
    store.run_checkpoint()
    catalog = SimulatedCatalog(disk)
    entry = catalog.find("/a")
    assert entry is not None
    assert entry.producers == 3
    for _ in range(2):
        disk.lose_power()
        store = open_store(disk, max_producers=3)
        assert is_duplicate(store, stamped(b"p2"))
        with pytest.raises(TooManyRequests):
            is_duplicate(store, stamped(b"new"))
        table = disk.catalog[1]  # type: ignore[index]  # the table of entries
        old = msgspec.msgpack.decode(table[b"/a"][4:])[
            :15
        ]  # an entry as an older version writes it
        table[b"/a"] = seal(b"/a", msgspec.msgpack.encode(old))
        found = SimulatedCatalog(disk).find("/a")
        assert found is not None
        assert found.producers == UNCOUNTED
