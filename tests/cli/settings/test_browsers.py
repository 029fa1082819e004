"""Origins that may call the server."""

import pytest

from durable_streams_server.cli.settings.loading import BadSettings, load_settings


@pytest.mark.parametrize(
    ("flags", "origins"),
    [
        ([], ("*",)),
        (["--cors-origin", "none"], ()),
        (["--cors-origin", "https://a.example"], ("https://a.example",)),
    ],
)
def test_every_origin_may_call_unless_others_are_named(
    flags: list[str], origins: tuple[str, ...]
) -> None:
    assert load_settings(flags, {}).settings.cors_origins() == origins


def test_none_beside_an_origin_is_refused() -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings([], {"DURABLE_STREAMS_CORS_ORIGIN": "none,*"})
    said = "DURABLE_STREAMS_CORS_ORIGIN names an origin beside 'none'"
    assert refused.value.message == said
