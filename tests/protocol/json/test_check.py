"""Tests of the validation of JSON values, including the differences between msgspec and the standard."""

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.json.check import (
    check_depth,
    check_text,
    check_value,
    elements,
    refuse_mark,
)


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (b"[]", []),
        (b'[1.10, {"a" : 1} ,"x"]', [b"1.10", b'{"a" : 1}', b'"x"']),
        (b'["\\ud83d", "\\\\ud83d"]', [b'"\\ud83d"', b'"\\\\ud83d"']),
    ],
)
def test_elements_have_their_exact_bytes(array: bytes, values: list[bytes]) -> None:
    assert [bytes(value) for value in elements(array)] == values


def test_error_in_array_names_the_position_in_the_body() -> None:
    with pytest.raises(BadRequest, match=r"byte 107\b"):
        elements(b"[1,2,3 4]", at=100)


@pytest.mark.parametrize("text", [b"1", b' {"a": [null]} ', b'"\\udc00"'])
def test_single_value_is_accepted(text: bytes) -> None:
    check_value(text)


@pytest.mark.parametrize("text", [b"", b"1 2", b'["\\ud83d",]', b"[" * 100_000])
def test_text_that_is_not_one_value_is_refused(text: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        check_value(text)
    assert caught.value.code == "INVALID_JSON"


def test_string_that_is_not_utf_8_is_refused() -> None:
    check_text('"é"'.encode())
    with pytest.raises(BadRequest):
        check_text(b'"\xc3"')


def test_byte_order_mark_is_refused() -> None:
    refuse_mark(b"1")
    with pytest.raises(BadRequest):
        refuse_mark(b"\xef\xbb\xbf1")


def test_depth_of_each_value_is_checked() -> None:
    check_depth([b"[[]]", b'"[[["'], 2)
    with pytest.raises(BadRequest):
        check_depth([b"1", b"[[[]]]"], 2)
