"""Tests of the decoded forms of a page in the Python API."""

import pytest

from durable_streams_server.protocol.results import StreamPage


def page(data: bytes, content_type: str) -> StreamPage:
    """Returns a page that ends at the tail."""
    return StreamPage(data, "1_1", True, False, content_type)


def test_json_page_is_decoded_with_exact_integers() -> None:
    large = 12345678901234567890123
    assert page(b'[{"n":%d},1.5]' % large, "application/json").json() == [{"n": large}, 1.5]


def test_json_of_a_text_page_raises_an_error() -> None:
    with pytest.raises(ValueError, match="not one of JSON but of text/plain"):
        page(b"[1]", "text/plain").json()


def test_text_page_is_decoded_as_utf_8() -> None:
    assert page("é".encode(), "text/plain").text() == "é"


def test_text_page_that_ends_inside_a_character_raises_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        page("é".encode()[:1], "text/plain").text()
