"""Tests of the JSON that completes a piece cut out of nested containers."""

import json

import pytest

from durable_streams_server.protocol.json.context import SEPARATORS, After, closes, closing, opening


@pytest.mark.parametrize("stack", [b"[", b"{", b"[{", b"{[", b"{{[{"])
@pytest.mark.parametrize("after", [After.OPENING, After.COMMA])
def test_opening_and_closing_brackets_form_valid_json(stack: bytes, after: After) -> None:
    assert json.loads(opening(stack, after) + closing(stack, after)) is not None


@pytest.mark.parametrize(
    ("stack", "after", "piece"),
    [
        (b"[", After.COMMA, b"2,"),
        (b"[", After.VALUE, b",2,"),
        (b"{[", After.OPENING, b'"x",['),
        (b"[{", After.COMMA, b'"k":'),
        (b"[{", After.KEY, b":1,"),
        (b"[{", After.COLON, b"[],"),
        (b"[{", After.VALUE, b',"k":{'),
    ],
)
def test_piece_of_json_is_valid_between_added_brackets(
    stack: bytes, after: After, piece: bytes
) -> None:
    inner = stack + piece[-1:] if piece[-1:] in (b"[", b"{") else stack
    text = opening(stack, after) + piece + closing(inner, SEPARATORS[piece[-1:]])
    assert json.loads(text) is not None


def test_colon_in_an_array_is_invalid_between_added_brackets() -> None:
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(opening(b"[", After.VALUE) + b":" + closing(b"[", After.COLON))


def test_bracket_closes_only_its_own_kind() -> None:
    assert closes(b"]", b"{[")
    assert not closes(b"}", b"{[")
    assert not closes(b"]", b"")
