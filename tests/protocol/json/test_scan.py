"""Tests of the positions at which JSON may be cut, and of the depth of nesting."""

import pytest

from durable_streams_server.protocol.json import scan


def test_ends_yields_the_position_after_the_comma_of_each_value() -> None:
    text = b'1,"a,b",[1,2],{"k":"}"},3'
    assert list(scan.ends(text)) == [2, 8, 14, 24]
    assert list(scan.ends(text, 2, 20)) == [8, 14]
    assert scan.last_end(text, 0, len(text)) == 24
    assert scan.last_end(text, 14, 20) == 14


@pytest.mark.parametrize(
    ("text", "position", "plain"),
    [
        (b"123", 0, b""),
        (b"[1,23", 3, b"[1,"),
        (b'[1,"a,b', 3, b"[1,"),
        (b'{"a":"b,c"', 5, b"{:"),
        (b'["\\",",{', 8, b"[,{"),
    ],
)
def test_last_separator_ignores_separators_in_strings(
    text: bytes, position: int, plain: bytes
) -> None:
    found = scan.last_separator(text)
    assert found == (position, plain)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (b'abc",', 3),
        (b'a\\"b"', 4),
        (b"abc", 3),
        (b"ab\\", 2),
        (b"ab\\u00e", 2),
        (b"ab\\u00e9", 8),
        (b"a\\\\", 3),
    ],
)
def test_string_end_is_never_inside_an_escape_sequence(text: bytes, end: int) -> None:
    assert scan.string_end(text) == end


@pytest.mark.parametrize(
    ("stack", "rest"), [(b"", b""), (b"[{}]", b""), (b"][", b"]["), (b"[{}]]{[]", b"]{")]
)
def test_unmatched_removes_pairs_of_matching_brackets(stack: bytes, rest: bytes) -> None:
    assert scan.unmatched(stack)[0] == rest


def test_depth_ignores_brackets_in_strings() -> None:
    assert scan.depth(b'{"[[[": [1, {"]": 2}]}') == 3
    assert scan.deepest(b"]][[[") == 1


@pytest.mark.parametrize(
    ("body", "position"),
    [
        (b"[1,2,3", 4),
        (b'[{"a":1},{"a":2},{"a":3', 16),
        (b'["a" , "b', 0),
        (b'["a","b","c', 8),
        (b"[123456", 0),
    ],
)
def test_likely_boundary_finds_the_comma_before_a_similar_element(
    body: bytes, position: int
) -> None:
    assert scan.likely_boundary(body, 1, len(body)) == position
