"""Tests of the text of static tokens, and of how the server recognises them."""

import hashlib
import hmac
from typing import Any

import pytest

from durable_streams_server.access.static_tokens import (
    StaticToken,
    StaticTokens,
    create_text,
    is_token_id,
    parse_token,
)
from durable_streams_server.errors import Unauthorized
from durable_streams_server.protocol.permissions import Claims, TokenLimits, grant_of

GRANTS = (grant_of(["read"], ["/v1/stream/chat/*"]),)
NOW = 1_000


def stored(text: str, **more: Any) -> StaticToken:
    """Returns what the server keeps of a token."""
    presented = parse_token(text)
    assert presented is not None
    return StaticToken(presented.id, presented.hash, GRANTS, **more)


def test_new_token_has_an_id_and_256_random_bits() -> None:
    text = create_text()
    prefix, id_, secret = text.split("_", 2)
    assert prefix == "dst"
    assert is_token_id(id_)
    assert len(secret) == 43
    assert parse_token(text) == (id_, hashlib.sha256(secret.encode()).digest())
    assert len({create_text() for _ in range(100)}) == 100


def test_created_tokens_always_have_the_accepted_form() -> None:
    assert all(parse_token(create_text()) for _ in range(1_000))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dst_",
        "dst_0123456789ab_",
        "dst_0123456789ab_" + "A" * 42,
        "dst_0123456789ab_" + "A" * 44,
        "dst_0123456789ab_" + "A" * 42 + "B",  # another spelling of the secret that ends with A
        "dst_0123456789ab_" + "A" * 42 + "=",
        "dst_0123456789ab_" + "A" * 42 + "\n",
        "dst_0123456789ab_" + "A" * 43 + "\n",
        "dst_0123456789AB_" + "A" * 43,
        "dst_0123456789a_" + "A" * 43,
        "DST_0123456789ab_" + "A" * 43,
        " dst_0123456789ab_" + "A" * 43,
        "dst_0123456789ab_" + "é" * 43,
    ],
)
def test_text_in_any_other_form_is_no_token(text: str) -> None:
    assert parse_token(text) is None
    with pytest.raises(Unauthorized) as caught:
        StaticTokens().verify(text, NOW)
    assert caught.value.code == "INVALID_TOKEN"


def test_known_token_is_recognised() -> None:
    one, other = create_text(), create_text()
    limits = TokenLimits(live_readers=5)
    tokens = StaticTokens((stored(one, expires_at=NOW + 1, limits=limits), stored(other)))
    found = tokens.verify(one, NOW)
    assert found == Claims(f"token:{one.split('_')[1]}", GRANTS, NOW + 1, limits)
    assert tokens.verify(other, NOW).expires_at is None
    assert tokens.verify(one, NOW) is found


def test_token_is_refused_from_the_moment_at_which_it_expires() -> None:
    text = create_text()
    tokens = StaticTokens((stored(text, expires_at=NOW),))
    assert tokens.verify(text, NOW - 1)
    for refused in (tokens.verify, lambda text, now: tokens.find(text.split("_")[1], now)):
        with pytest.raises(Unauthorized) as caught:
            refused(text, NOW)
        assert caught.value.code == "TOKEN_EXPIRED"


def test_right_id_with_wrong_secret_is_refused() -> None:
    text = create_text()
    tokens = StaticTokens((stored(text),))
    wrong = f"dst_{text.split('_')[1]}_{create_text().split('_', 2)[2]}"
    with pytest.raises(Unauthorized) as caught:
        tokens.verify(wrong, NOW)
    assert caught.value.code == "INVALID_TOKEN"


def test_unknown_and_wrong_tokens_are_compared_in_constant_time_and_refused_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = create_text()
    tokens = StaticTokens((stored(text),))
    compared = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    said = set()
    for wrong in (create_text(), text[:-4] + "AAAA"):
        with pytest.raises(Unauthorized) as caught:
            tokens.verify(wrong, NOW)
        said.add(str(caught.value))
    assert len(said) == 1
    assert [(len(one), len(other)) for one, other in compared] == [(32, 32)] * 2


def test_token_that_hashes_to_nothing_is_still_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the comparison with an unknown id succeeded, the token would still be refused."""
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: True)
    with pytest.raises(Unauthorized):
        StaticTokens().verify(create_text(), NOW)


def test_token_is_found_by_id() -> None:
    token = stored(create_text(), expires_at=NOW + 1)
    assert StaticTokens((token,)).find(token.id, NOW) is token
    with pytest.raises(Unauthorized):
        StaticTokens((token,)).find("0" * 12, NOW)


def test_printed_token_shows_no_hash() -> None:
    token = stored(create_text())
    assert repr(token) == f"StaticToken('{token.id}')"
    assert token.__rich_repr__() == [("id", token.id)]
