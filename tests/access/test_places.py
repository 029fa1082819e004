"""Tests of the values of `--auth`."""

from pathlib import Path

import pytest

from durable_streams_server.access.places import Places, is_url, parse_places


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([], Places()),
        (["tokens:/etc/tokens.json"], Places(Path("/etc/tokens.json"))),
        (["tokens:a:b"], Places(Path("a:b"))),
        (["jwks:keys.json"], Places(None, "keys.json")),
        (["jwks:https://a.example/k?x=1"], Places(None, "https://a.example/k?x=1")),
        (["jwks:http://127.0.0.1:1/k", "tokens:t"], Places(Path("t"), "http://127.0.0.1:1/k")),
    ],
)
def test_values_name_a_token_file_and_a_key_set(values: list[str], places: Places) -> None:
    assert parse_places(values) == places


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([""], "tokens:FILE, jwks:FILE or jwks:URL"),
        (["tokens.json"], "tokens:FILE, jwks:FILE or jwks:URL"),
        (["tokens:"], "tokens:FILE, jwks:FILE or jwks:URL"),
        (["key:secret"], "tokens:FILE, jwks:FILE or jwks:URL"),
        (["tokens:a", "tokens:b"], "only one file of tokens"),
        (["jwks:a", "jwks:b"], "only one key set"),
        (["jwks:http://a.example/k"], "https://, or http:// on this machine"),
        (["jwks:ftp://a.example/k"], "https://, or http:// on this machine"),
    ],
)
def test_malformed_value_is_refused(values: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_places(values)


def test_place_with_a_scheme_is_a_url() -> None:
    assert is_url("https://a")
    assert not is_url("/etc/https:/a")
