"""Tests of the memory store's bytes, and of the marks at which pages may be cut."""

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol.limits import MARK_SPACING
from durable_streams_server.protocol.media import Kind
from durable_streams_server.protocol.units import MIB
from durable_streams_server.storage import blocks as storage_blocks
from durable_streams_server.storage.blocks import Blocks


@given(
    st.integers(0, 50),
    st.lists(st.binary(max_size=10), max_size=10),
    st.sampled_from([1, 8, MIB]),
    st.sampled_from([1, 8, MIB]),
    st.data(),
)
def test_memory_blocks_return_appended_bytes_and_boundaries(
    base: int, appends: list[bytes], whole_from: int, longest_run: int, choice: st.DataObject
) -> None:
    blocks = Blocks(base, Kind.BINARY)
    with mock.patch.multiple(storage_blocks, _WHOLE=whole_from, _RUN=longest_run):
        for data in appends:
            blocks.append(data)
    whole = b"".join(appends)
    assert len(blocks) == len(whole)
    assert blocks.read(base, base + len(whole)) == whole
    start = choice.draw(st.integers(0, len(whole)))
    end = choice.draw(st.integers(start, len(whole)))
    assert blocks.read(base + start, base + end) == whole[start:end]
    edges = [base]
    for data in appends:
        edges.append(edges[-1] + len(data))
    for position in range(base, base + len(whole)):
        marks = blocks.marks(position)
        assert marks.lower == max(edge for edge in edges if edge <= position)
        assert marks.upper == marks.append_end == min(edge for edge in edges if edge > position)


def test_small_appends_are_joined_and_large_appends_are_not_copied() -> None:
    blocks = Blocks(0, Kind.BINARY)
    large = b"x" * 8192
    appends = [*[b"x" * 8191] * 9, large, b"x", b"x" * 100, b"x" * MIB, b"xx"]
    for data in appends:
        blocks.append(data)
    grown = [len(run) for run in blocks._runs if isinstance(run, bytearray)]
    assert grown == [8 * 8191, 8191, 101, 2]
    assert blocks.read(9 * 8191, 9 * 8191 + 8192) is large


def test_large_json_append_has_page_cut_marks() -> None:
    value = b"1" * 1000 + b","
    blocks = Blocks(0, Kind.JSON)
    blocks.append(value * 100)
    marks = blocks.marks(50_000)
    assert marks.lower % 1001 == marks.upper % 1001 == 0
    assert MARK_SPACING <= marks.upper - marks.lower < MARK_SPACING + 1001
    assert marks.append_end == 100_100
