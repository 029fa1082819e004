"""Tests of the essence and the kind of content types."""

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.media import Kind, is_utf8, parse_media_type


@pytest.mark.parametrize(
    ("text", "essence", "kind"),
    [
        ("application/json", "application/json", Kind.JSON),
        ("Application/JSON; charset=utf-8", "application/json", Kind.JSON),
        ("application/json;charset=utf-8", "application/json", Kind.JSON),
        ("text/plain", "text/plain", Kind.TEXT),
        ("TEXT/event-stream", "text/event-stream", Kind.TEXT),
        ("application/ndjson", "application/ndjson", Kind.BINARY),
        ("application/x+json", "application/x+json", Kind.BINARY),
        ("image/png", "image/png", Kind.BINARY),
    ],
)
def test_content_kind_does_not_depend_on_case_or_parameters(
    text: str, essence: str, kind: Kind
) -> None:
    media = parse_media_type(text)
    assert (media.text, media.essence, media.kind) == (text, essence, kind)


@pytest.mark.parametrize(
    "text", ["", "json", "/", "text/", "/plain", "text plain", "a/b/c", "x" * 300]
)
def test_malformed_content_type_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_media_type(text)
    assert caught.value.code == "INVALID_CONTENT_TYPE"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text/plain", True),
        ("text/plain; charset=UTF-8", True),
        ('text/plain;format=flowed; charset="utf-8"', True),
        ("text/plain; charset=us-ascii", True),
        ("text/plain; charset=iso-8859-1", False),
        ("text/html; Charset=UTF-16", False),
        ("text/plain; charset=utf-8-sig", False),
        ("text/plain; charset=", False),
        ("application/json", False),
        ("application/octet-stream; charset=utf-8", False),
        ("text/plain; charset*0=utf-8; charset*=utf-8", False),
    ],
)
def test_text_is_utf8_unless_it_has_another_charset(text: str, expected: bool) -> None:
    assert is_utf8(parse_media_type(text)) is expected


def test_more_content_types_than_the_cache_holds_are_parsed_correctly() -> None:
    first = parse_media_type("x/0")
    for number in range(1000):
        assert parse_media_type(f"x/{number}").essence == f"x/{number}"
    assert parse_media_type("x/0") == first
