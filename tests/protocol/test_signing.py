"""Tests of the signature header, which has exactly one spelling."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol.signing import (
    REPLAY_WINDOW,
    Key,
    Signature,
    decode_base64url,
    encode_base64url,
    format_signature,
    parse_signature,
    signed_bytes,
)

KID = "ds_abc-123"
GOOD = format_signature(1_778_324_210, KID, bytes(64))


def test_replay_window_is_five_minutes() -> None:
    assert REPLAY_WINDOW == 5 * 60


def test_signature_header_has_the_format_of_the_protocol() -> None:
    assert f"t=1778324210,kid={KID},ed25519={'A' * 86}" == GOOD


def test_signed_bytes_are_time_dot_and_exact_body() -> None:
    assert signed_bytes(7, b'{ "a":1}\n\x00\xff') == b'7.{ "a":1}\n\x00\xff'


@given(
    st.integers(0, 10**12 - 1),
    st.text("abcXYZ019_-", min_size=1, max_size=128),
    st.binary(min_size=64, max_size=64),
)
def test_formatted_signature_is_parsed_back(timestamp: int, kid: str, signature: bytes) -> None:
    header = format_signature(timestamp, kid, signature)
    assert parse_signature(header) == Signature(timestamp, kid, signature)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "t=1",
        GOOD + ",",
        GOOD + "=",
        GOOD + "==",
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace(",", ", "),
        GOOD.replace("t=", "T="),
        GOOD.replace("t=", "t=+"),
        GOOD.replace("t=", "t=-"),
        GOOD.replace("t=", "t=0"),
        GOOD.replace("t=1778324210", "t="),
        GOOD.replace("t=1778324210", "t=1.5"),
        GOOD.replace("t=1778324210", "t=\u0661"),
        GOOD.replace("t=1778324210", "t=" + "9" * 13),
        GOOD.replace("t=1778324210", "t=1,t=1778324210"),
        GOOD.replace(KID, ""),
        GOOD.replace(KID, "k" * 129),
        GOOD.replace(KID, "a b"),
        GOOD.replace(f"kid={KID}", f"kid={KID},kid={KID}"),
        GOOD.replace("ed25519", "ed448"),
        GOOD + "," + GOOD.split(",")[2],
        GOOD + ",v1=00",
        GOOD[:-1],
        GOOD[:-1] + "B",  # an unused bit that is not zero
        GOOD[:-1] + "+",
        f"kid={KID},t=1,ed25519={'A' * 86}",
        f"t=1,kid={KID}",
    ],
)
def test_any_other_spelling_of_a_signature_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"malformed|spelling"):
        parse_signature(text)


@pytest.mark.parametrize(
    ("timestamp", "kid", "signature"),
    [(-1, KID, bytes(64)), (10**12, KID, bytes(64)), (1, "a,b", bytes(64)), (1, KID, bytes(63))],
)
def test_signature_that_cannot_be_parsed_is_not_formatted(
    timestamp: int, kid: str, signature: bytes
) -> None:
    with pytest.raises(ValueError, match="no webhook signature"):
        format_signature(timestamp, kid, signature)


@given(st.binary(max_size=100))
def test_encoded_base64url_decodes_to_the_same_bytes(data: bytes) -> None:
    assert decode_base64url(encode_base64url(data)) == data


@pytest.mark.parametrize("text", ["A", "AB", "AAA=", "AA==", "AA+A", "A A", "AAAAA", "AA\n"])
def test_base64url_in_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"padd|spelling|characters"):
        decode_base64url(text)


def test_repr_of_a_key_has_no_secret() -> None:
    key = Key(KID, b"seed" * 8, b"hush" * 8, 1)
    shown = f"{key} {key!r} {key.__rich_repr__()}"
    assert KID in shown
    assert "seed" not in shown
    assert "hush" not in shown


def test_key_is_encoded_as_an_array() -> None:
    key = Key(KID, b"s" * 32, b"h" * 32, 1, 2)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(key), type=Key) == key
    assert len(msgspec.msgpack.decode(msgspec.msgpack.encode(key))) == 5
