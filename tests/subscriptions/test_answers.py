"""Tests how content encodings and byte order marks of answers are decoded."""

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.subscriptions.answers import MAX_REPLY_BODY, decode
from durable_streams_server.subscriptions.network import DeliveryFailed

DONE = b'{"done":true}'


def raw_deflate(body: bytes) -> bytes:
    """Returns a body compressed without the zlib header, as some servers send it for `deflate`."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


def failure(coding: bytes, body: bytes) -> DeliveryFailed:
    """Asserts that a body does not decode, and returns the error."""
    with pytest.raises(DeliveryFailed) as caught:
        decode([coding], body)
    return caught.value


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(DONE, mtime=0)),
        (b"x-gzip", gzip.compress(DONE, mtime=0)),
        (b" GZIP ", gzip.compress(DONE, mtime=0)),
        (b"deflate", zlib.compress(DONE)),
        (b"deflate", raw_deflate(DONE)),
        (b"identity", DONE),
        (b"", DONE),
        (b"identity, gzip", gzip.compress(DONE, mtime=0)),
    ],
)
def test_answer_body_is_decoded_by_its_content_encoding(coding: bytes, body: bytes) -> None:
    assert decode([coding], body) == DONE


def test_body_without_content_encoding_is_returned_unchanged() -> None:
    assert decode([], DONE) == DONE
    assert decode([], b"\xff\x00") == b"\xff\x00"


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"nonsense"])
def test_empty_body_is_empty_in_every_encoding(coding: bytes) -> None:
    assert decode([coding], b"") == b""


@pytest.mark.parametrize(
    "coding", [b"br", b"zstd", b"compress", b"gzip, gzip", b"gzip,deflate", b"\xff"]
)
def test_answer_with_unknown_content_encoding_fails(coding: bytes) -> None:
    error = failure(coding, gzip.compress(DONE, mtime=0))
    assert error.reason == "the receiver's answer is in an encoding that was not asked for"
    assert error.code == "invalid_answer"


def test_two_encodings_in_two_headers_fail() -> None:
    with pytest.raises(DeliveryFailed, match="encoding"):
        decode([b"gzip", b"gzip"], gzip.compress(gzip.compress(DONE, mtime=0)))


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
@pytest.mark.parametrize(
    "body",
    [
        DONE,
        gzip.compress(DONE, mtime=0)[:-1],
        zlib.compress(DONE)[:-1],
        gzip.compress(DONE, mtime=0)[:12],
        gzip.compress(DONE, mtime=0) + b"x",
        zlib.compress(DONE) + b"x",
        b"\x1f\x8b",
    ],
)
def test_undecodable_answer_body_fails(coding: bytes, body: bytes) -> None:
    assert "encoding" in failure(coding, body).reason


@given(st.sampled_from([b"gzip", b"deflate"]), st.binary(max_size=200))
def test_any_answer_body_is_decoded_or_refused(coding: bytes, body: bytes) -> None:
    with suppress(DeliveryFailed):
        assert len(decode([coding], body)) <= MAX_REPLY_BODY


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_body_of_64_kib_after_decoding_is_accepted_and_one_more_byte_fails(coding: bytes) -> None:
    compress = gzip.compress if coding == b"gzip" else zlib.compress
    whole = b"x" * MAX_REPLY_BODY
    assert decode([coding], compress(whole)) == whole
    assert "too large" in failure(coding, compress(whole + b"x")).reason
    assert "too large" in failure(coding, compress(bytes(50_000_000))).reason


TEXT = '{"done":true,"é":"𝄞"}'


@pytest.mark.parametrize(
    "body",
    [
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        b"\xff\xfe" + TEXT.encode("utf-16-le"),
        b"\x00\x00\xfe\xff" + TEXT.encode("utf-32-be"),
        b"\xff\xfe\x00\x00" + TEXT.encode("utf-32-le"),
    ],
)
def test_body_with_byte_order_mark_becomes_utf_8_without_it(body: bytes) -> None:
    assert decode([], body) == TEXT.encode()
    assert decode([b"gzip"], gzip.compress(body)) == TEXT.encode()


@pytest.mark.parametrize("body", [b"\xff\xfex", b"\xfe\xff\xd8\x00", b"\xff\xfe\x00\x00x"])
def test_byte_order_mark_before_invalid_text_fails(body: bytes) -> None:
    error = failure(b"", body)
    assert "byte order mark" in error.reason
    assert error.code == "invalid_answer"


def test_only_the_first_byte_order_mark_is_removed() -> None:
    mark = b"\xef\xbb\xbf"
    assert decode([], mark) == b""
    assert decode([], mark + mark + b"x") == mark + b"x"
