"""A stream's bytes in memory, and the marks at which pages may be cut."""

from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol.media import Kind
from durable_streams_server.protocol.names import MARK_SPACING
from durable_streams_server.storage.blocks import Blocks


@given(st.integers(0, 50), st.lists(st.binary(max_size=10), max_size=10))
def test_reads_and_marks_follow_the_appends(base: int, appends: list[bytes]) -> None:
    blocks = Blocks(base, Kind.BINARY)
    for data in appends:
        blocks.append(data)
    whole = b"".join(appends)
    assert len(blocks) == len(whole)
    assert blocks.read(base, base + len(whole)) == whole
    edges = [base]
    for data in appends:
        edges.append(edges[-1] + len(data))
    for position in range(base, base + len(whole)):
        marks = blocks.marks(position)
        assert marks.lower == max(edge for edge in edges if edge <= position)
        assert marks.upper == marks.append_end == min(edge for edge in edges if edge > position)


def test_a_large_json_append_is_marked_inside() -> None:
    value = b"1" * 1000 + b","
    blocks = Blocks(0, Kind.JSON)
    blocks.append(value * 100)
    marks = blocks.marks(50_000)
    assert marks.lower % 1001 == marks.upper % 1001 == 0
    assert MARK_SPACING <= marks.upper - marks.lower < MARK_SPACING + 1001
    assert marks.append_end == 100_100
