"""Tests of JSON mode, which validates bodies and cuts them into values without changing their bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.json import mode as json_mode
from durable_streams_server.protocol.limits import MAX_JSON_DEPTH

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
spaces = st.text(alphabet=" \t\n\r", max_size=3)


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """Returns a number inside `depth` containers."""
    return opening * depth + b"1" + closing * depth


@pytest.mark.parametrize(
    ("body", "wire"),
    [
        (b"1", b"1,"),
        (b"12345678901234567890123456789", b"12345678901234567890123456789,"),
        (b'{"a":1,"a":2}', b'{"a":1,"a":2},'),
        (b"1.10", b"1.10,"),
        (b"1E400", b"1E400,"),
        (b"[1.10,1.1]", b"1.10,1.1,"),
        (b'{ "b" : 1 , "a" : [ ] }', b'{ "b" : 1 , "a" : [ ] },'),
        (b'[ {"x": [1, 2]} , [3] ]', b'{"x": [1, 2]},[3],'),
        (b'["\\u0041\\ud83d\\ude00"]', b'"\\u0041\\ud83d\\ude00",'),
        (b'"\\ud83d"', b'"\\ud83d",'),
        (b'[ "\\ud83d" , {"a":"\\udc00"} ]', b'"\\ud83d",{"a":"\\udc00"},'),
        (b'["\\ud83d",%b]' % (b"7" * 5000), b'"\\ud83d",%b,' % (b"7" * 5000)),
        ("\u2028é".join('""').encode(), '"\u2028é",'.encode()),
    ],
)
def test_values_keep_their_exact_bytes(body: bytes, wire: bytes) -> None:
    assert json_mode.to_wire(body) == wire


@given(st.lists(st.tuples(values, spaces, st.booleans()), min_size=1, max_size=6))
def test_array_is_cut_into_the_exact_bytes_of_its_elements(
    items: list[tuple[object, str, bool]],
) -> None:
    texts = [json.dumps(value, ensure_ascii=ascii_only) for value, _, ascii_only in items]
    body = "[" + ",".join(
        space + text + space for text, (_, space, _) in zip(texts, items, strict=True)
    )
    wire = json_mode.to_wire((body + "]").encode())
    assert wire == "".join(text + "," for text in texts).encode()
    ends = list(json_mode.value_ends(wire))
    assert [wire[a:b] for a, b in zip([0, *ends], ends, strict=False)] == [
        (text + ",").encode() for text in texts
    ]
    assert json.loads(b"[" + wire[:-1] + b"]") == [json.loads(text) for text in texts]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[1",
        b"[1,]",
        b"[,1]",
        b"1 2",
        b"[1] 2",
        b"{'a':1}",
        b"nul",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"01",
        b"+1",
        b'"\x01"',
        b'"\\x41"',
        b"\xef\xbb\xbf1",
        b'"\xff"',
        b'"\xc3"',
        b"   ",
        b'["\\ud83d",NaN]',
        b'["\\ud83d" 1]',
        b'["\\ud83d",',
    ],
)
def test_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        json_mode.to_wire(body)
    assert caught.value.code == "INVALID_JSON"


def test_empty_array_is_valid_for_put_and_refused_for_post() -> None:  # TRAPS 25
    assert json_mode.to_wire(b" [ ] ", allow_empty=True) == b""
    with pytest.raises(BadRequest) as caught:
        json_mode.to_wire(b"[]")
    assert caught.value.code == "EMPTY_ARRAY"


@pytest.mark.parametrize(
    "body",
    [
        nested(MAX_JSON_DEPTH),
        nested(MAX_JSON_DEPTH, b'{"a":', b"}"),
        b'["' + b"[" * 1000 + b'"]',
        b'["\\"' + b"{" * 1000 + b'"]',
        b"[" + b",".join([b"[]"] * 1000) + b"]",
    ],
)
def test_body_with_many_brackets_and_allowed_depth_is_accepted(body: bytes) -> None:
    wire = json_mode.to_wire(body)
    assert list(json_mode.value_ends(wire))[-1] == len(wire)


@pytest.mark.parametrize(
    "body",
    [
        nested(MAX_JSON_DEPTH + 1),
        nested(MAX_JSON_DEPTH + 1, b'{"a":', b"}"),
        nested(100_000),
        b"[" * 100_000,
        b'["\\ud83d",' + nested(100_000) + b"]",
    ],
)
def test_body_beyond_maximum_depth_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        json_mode.to_wire(body)
