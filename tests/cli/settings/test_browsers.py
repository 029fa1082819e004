"""Origins that may call the server."""

import pytest

from durable_streams_server.cli.settings.loading import BadSettings, load_settings


@pytest.mark.parametrize(
    ("flags", "origins"),
    [
        ([], ("local",)),
        (["--host", "::1"], ("local",)),
        (["--allowed-host", "streams.example"], ("local",)),
        (["--host", "0.0.0.0", "--no-auth"], ("*",)),
        (["--uds", "/run/s.sock"], ("*",)),
        (["--auth", "TOKENS"], ("*",)),
        (["--cors-origin", "*"], ("*",)),
        (["--cors-origin", "none"], ()),
        (
            ["--cors-origin", "local", "--cors-origin", "https://a.example"],
            ("local", "https://a.example"),
        ),
        (["--cors-origin", "https://a.example"], ("https://a.example",)),
    ],
)
def test_cors_allows_local_pages_on_loopback_without_auth_and_all_pages_otherwise(
    flags: list[str], origins: tuple[str, ...]
) -> None:
    given = [each.replace("TOKENS", "tokens:tokens.json") for each in flags]
    assert load_settings(given, {}).settings.cors_origins() == origins


def test_none_beside_an_origin_is_refused() -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings([], {"DURABLE_STREAMS_CORS_ORIGIN": "none,*"})
    said = "DURABLE_STREAMS_CORS_ORIGIN names an origin beside 'none'"
    assert refused.value.message == said
