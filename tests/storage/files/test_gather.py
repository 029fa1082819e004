"""Tests of how a checkpoint gathers the unflushed bytes of streams."""

from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.files import gather
from durable_streams_server.storage.files.gather import Gathering
from durable_streams_server.storage.files.index import encode
from durable_streams_server.storage.files.log_layout import Extent
from durable_streams_server.storage.recent import Recent

TEXT = parse_media_type("text/plain")


def stream(number: int, sizes: list[int]) -> tuple[StreamState, Recent]:
    """Returns a stream with unflushed appends of the given sizes."""
    state = StreamState(f"/{number}", number, TEXT, FOREVER, 1)
    recent = Recent(0, 0, 0)
    for size in sizes:
        state.tail += size
        recent.add(state.tail, b"x" * size)
    return state, recent


def gathered(*streams: tuple[StreamState, Recent]) -> Gathering:
    """Returns a `Gathering` to which the given streams were added."""
    gathering = Gathering()
    for state, recent in streams:
        gathering.add(state, recent, Extent(recent.base, recent.flushed, recent.entries))
    return gathering


def test_checkpoint_gathers_appends_and_index_entries_in_steps() -> None:
    count = 2 * gather._RUN + 7
    state, recent = stream(1, [3] * count)
    gathering = gathered((state, recent))
    steps = 0
    while not gathering.is_complete:
        gathering.take_some(1)
        steps += 1
    assert steps == 3
    [work] = gathering.flushes
    whole = recent.pieces(0, state.tail)
    assert work.pieces == whole
    assert [each for each, _ in work.entries] == [gather._RUN, gather._RUN, 7]
    assert b"".join(entries or b"" for _, entries in work.entries) == encode(whole)


def test_checkpoint_does_not_gather_appends_made_after_it_began() -> None:
    state, recent = stream(1, [1, 2])
    gathering = gathered((state, recent))
    recent.add(10, b"x" * 7)
    gathering.take_some(100)
    assert gathering.is_complete
    assert gathering.flushes[0].pieces.end == 3


def test_one_gathering_step_takes_appends_of_several_streams() -> None:
    gathering = gathered(*(stream(number, [1] * 10) for number in range(1, 6)))
    gathering.take_some(35)
    assert sum(len(work.pieces) for work in gathering.flushes) == 40
    gathering.take_some(35)
    assert gathering.is_complete


def test_stream_without_new_appends_adds_nothing_to_its_log() -> None:
    state, recent = stream(1, [])
    gathering = Gathering()
    assert gathering.add(state, recent, Extent(0, 0, 0)) == 0
    assert gathering.is_complete
    assert gathering.flushes == []


def test_take_rest_leaves_index_entries_to_checkpoint_thread() -> None:
    count = 3 * gather._RUN
    state, recent = stream(1, [1] * count)
    gathering = gathered((state, recent))
    gathering.take_some(1)
    gathering.take_rest(1)
    recent.clear()
    assert gathering.is_complete
    [work] = gathering.flushes
    assert len(work.pieces) == count
    assert [entries is None for _, entries in work.entries] == [False, True, True]
    gathering.take_rest(1)  # nothing is left
    gathering.take_rest(2)  # no stream has this incarnation


def test_checkpoint_thread_encodes_index_entries_of_large_appends() -> None:
    state, recent = stream(1, [1, gather._LARGE, 1])
    gathering = gathered((state, recent))
    gathering.take_some(10)
    assert gathering.flushes[0].entries == [(3, None)]
