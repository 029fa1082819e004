"""Tests of encoded events, which are decoded by a parser that follows the HTML standard (9.2.6)."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol import sse
from durable_streams_server.protocol.media import Kind

OFFSET = "0000000000000001_0000000000000042"


def parse(stream: bytes) -> list[tuple[str, str, str]]:
    """Returns the type, data and last event id of each event."""
    text = stream.decode("utf-8")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    events: list[tuple[str, str, str]] = []
    data: list[str] = []
    kind = identity = ""
    for line in lines:
        if not line:
            if data:
                events.append((kind or "message", "\n".join(data), identity))
            kind, data = "", []
            continue
        if line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            identity = value
    return events


def encode(kind: Kind, data: bytes) -> bytes:
    """Returns a whole data event."""
    return b"".join(sse.data_event(kind, OFFSET, data))


texts = st.text(alphabet=st.sampled_from("ab :\r\n\u2028é😀"), min_size=1, max_size=30)


@given(texts)
def test_payload_cannot_forge_an_event(text: str) -> None:  # TRAPS 33, 56
    control = sse.control_event(OFFSET, "7", up_to_date=True, closed=False)
    events = parse(encode(Kind.TEXT, text.encode()) + control)
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    assert [event[0] for event in events] == ["data", "control"]
    assert events[0][1:] == (lines, OFFSET)


@pytest.mark.parametrize("token", [" world", "  two", "\n indented", "\r x", " "])
def test_leading_space_of_a_data_line_is_preserved(token: str) -> None:  # TRAPS 56
    ((_, data, _),) = parse(encode(Kind.TEXT, token.encode()))
    assert data == token.replace("\r", "\n")


@given(st.binary(min_size=1, max_size=200))
def test_binary_data_is_sent_as_base64(data: bytes) -> None:
    ((kind, text, identity),) = parse(encode(Kind.BINARY, data))
    assert (kind, base64.b64decode(text), identity) == ("data", data, OFFSET)


@given(st.binary(min_size=1, max_size=60))
def test_invalid_utf_8_is_sent_as_replacement_characters(data: bytes) -> None:
    ((_, text, _),) = parse(encode(Kind.TEXT, data))
    expected = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    assert text == expected


@pytest.mark.parametrize("separator", [b"", b"\r\n", b"\r", b"\n"])
def test_json_value_larger_than_one_piece_is_sent_as_one_event(separator: bytes) -> None:
    value = b'{"a":[' + b",".join([b"1" + separator] * 60_000) + b"]}"
    pieces = list(sse.data_event(Kind.JSON, OFFSET, value + b","))
    assert len(pieces) > 2
    ((_, data, _),) = parse(b"".join(pieces))
    assert json.loads(data) == [json.loads(value)]


@pytest.mark.parametrize(
    "part",
    [
        b"\x00",
        b"x",
        b"\n",
        b"\n ",
        b"\r\n",
        "é".encode(),
        "😀".encode(),
        b"\xff",
        b"\x80",
        b"a\r\n b",
    ],
)
@pytest.mark.parametrize("kind", list(Kind))
def test_large_append_is_encoded_as_one_event_in_bounded_pieces(kind: Kind, part: bytes) -> None:
    data = (b'"' if kind is Kind.JSON else b"") + part * (200_000 // len(part))
    if kind is Kind.JSON:
        data += b'",'
    pieces = list(sse.data_event(kind, OFFSET, data))
    assert max(map(len, pieces)) <= 25 * 1024
    if kind is Kind.BINARY:
        ((_, text, _),) = parse(b"".join(pieces))
        assert base64.b64decode(text) == data
        return
    whole = sse.whole_event(kind, OFFSET, data, b"")
    assert whole.startswith(b"".join(pieces))


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n", "\n \n"])
def test_text_with_many_lines_is_encoded_in_bounded_pieces(line_end: str) -> None:  # TRAPS 38
    text = f"x{line_end}" * 5000
    pieces = list(sse.data_event(Kind.TEXT, OFFSET, text.encode()))
    assert max(len(piece) for piece in pieces) < 32 * 1024
    ((_, data, _),) = parse(b"".join(pieces))
    assert data == text.replace("\r\n", "\n").replace("\r", "\n")


def test_control_event_has_the_fields_that_clients_expect() -> None:
    control = sse.control_event(OFFSET, "7", up_to_date=False, closed=False)
    assert control.startswith(b"id:%s\nevent: control\ndata:{" % OFFSET.encode())
    ((_, data, _),) = parse(control)
    assert json.loads(data) == {"streamNextOffset": OFFSET, "streamCursor": "7"}


def test_control_event_of_a_closed_stream_is_up_to_date_without_cursor() -> None:  # TRAPS 31
    ((_, data, _),) = parse(sse.control_event(OFFSET, None, up_to_date=True, closed=True))
    assert json.loads(data) == {"streamNextOffset": OFFSET, "upToDate": True, "streamClosed": True}


@pytest.mark.parametrize(
    ("data", "complete"),
    [(b"abc", 3), ("é".encode(), 2), (b"a\xc3", 1), (b"a\xf0\x9f\x98", 1), (b"\xff\xfe", 2)],
)
def test_complete_text_excludes_an_incomplete_character_before_the_end(
    data: bytes, complete: int
) -> None:
    assert sse.complete_text(data, at_end=False) == complete
    assert sse.complete_text(data, at_end=True) == len(data)


@given(
    st.sampled_from(list(Kind)),
    st.binary(min_size=1, max_size=200) | texts.map(str.encode),
    st.sampled_from([None, "7"]),
    st.booleans(),
)
def test_whole_event_equals_a_data_event_followed_by_a_control_event(
    kind: Kind, data: bytes, cursor: str | None, up_to_date: bool
) -> None:
    closed = cursor is None
    control = sse.control_event(OFFSET, cursor, up_to_date, closed)
    ending = sse.control_ending(cursor, up_to_date, closed)
    assert sse.whole_event(kind, OFFSET, data, ending) == encode(kind, data) + control
