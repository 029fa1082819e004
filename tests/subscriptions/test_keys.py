"""Tests how signing keys are created, rotated, published and retired."""

import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from durable_streams_server.protocol.signing import (
    Key,
    decode_base64url,
    parse_signature,
    signed_bytes,
)
from durable_streams_server.subscriptions.keys import (
    KEEP_RETIRED,
    active,
    generate,
    jwks,
    rotate,
    sign,
)
from durable_streams_server.subscriptions.tokens import TOKEN_LIFE

SECOND = 1_000_000
NOW = 1_778_324_210 * SECOND
BODY = b'{"generation":7}'

#: The key and thumbprint of RFC 8037, appendices A.1 and A.3.
RFC_8037 = Key(
    "ds_kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    decode_base64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"),
    b"s" * 32,
    NOW,
)


def test_new_keys_have_different_ids_seeds_and_secrets() -> None:
    one, two = generate(NOW), generate(NOW)
    assert one.kid != two.kid
    assert one.seed != two.seed
    assert one.secret != two.secret != one.seed
    assert (len(one.seed), len(one.secret), one.created_at, one.retired_at) == (32, 32, NOW, None)


def test_key_id_is_the_thumbprint_of_the_public_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_bytes", lambda size: RFC_8037.seed)
    assert generate(NOW).kid == RFC_8037.kid


def test_key_set_has_the_members_of_the_protocol() -> None:
    assert jwks([RFC_8037], NOW) == {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "kid": RFC_8037.kid,
                "use": "sig",
                "alg": "EdDSA",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }
        ]
    }
    json.dumps(jwks([RFC_8037], NOW))


def test_signature_covers_timestamp_and_exact_body() -> None:
    signature = parse_signature(sign(RFC_8037, 1234, BODY))
    assert (signature.timestamp, signature.kid) == (1234, RFC_8037.kid)
    public = Ed25519PublicKey.from_public_bytes(
        decode_base64url(jwks([RFC_8037], NOW)["keys"][0]["x"])
    )
    public.verify(signature.signature, signed_bytes(1234, BODY))
    with pytest.raises(InvalidSignature):
        public.verify(signature.signature, signed_bytes(1234, BODY + b" "))


def test_rotation_without_keys_creates_the_first_key() -> None:
    (key,) = rotate((), NOW)
    assert active([key]) is key


def test_active_raises_lookup_error_without_an_active_key() -> None:
    with pytest.raises(LookupError, match="no active"):
        active([])


def test_rotation_puts_a_new_key_first_and_retires_the_old_one() -> None:
    old = generate(NOW)
    new, kept = rotate([old], NOW + 5)
    assert active([new, kept]) is new
    assert kept == Key(old.kid, old.seed, old.secret, NOW, NOW + 5)
    assert [key["kid"] for key in jwks([new, kept], NOW + 5)["keys"]] == [new.kid, old.kid]


def test_second_rotation_keeps_the_retirement_time_of_the_first() -> None:
    first = rotate([generate(NOW)], NOW + 5)
    assert [key.retired_at for key in rotate(first, NOW + 9)] == [None, NOW + 9, NOW + 5]


def test_retired_key_is_dropped_after_an_hour() -> None:
    keys = rotate([generate(NOW)], NOW)
    last = NOW + KEEP_RETIRED * SECOND - 1
    assert len(jwks(keys, last)["keys"]) == len(rotate(keys, last)) - 1 == 2
    assert len(jwks(keys, last + 1)["keys"]) == len(rotate(keys, last + 1)) - 1 == 1


def test_retired_key_outlives_its_last_token() -> None:
    assert KEEP_RETIRED >= TOKEN_LIFE
