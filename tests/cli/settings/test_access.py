"""Settings of access control: their contradictions, and what they mean for the server."""

from pathlib import Path

import pytest

from durable_streams_server.access.jwt_rules import JwtRules
from durable_streams_server.cli.settings.loading import BadSettings, load_settings
from durable_streams_server.cli.settings.settings import Settings
from tests.access.provider import usual_key_set
from tests.http.gate.tokens import empty_token_file

ISSUER = ["--jwt-issuer", "https://login.example"]
AUDIENCE = ["--jwt-audience", "streams"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--auth", "tokens:a", "--auth", "tokens:b"], "--auth has two sources 'tokens:…'"),
        (["--auth", "jwks:a", "--auth", "jwks:b"], "--auth has two sources 'jwks:…'"),
        (["--auth", "jwks:a", *AUDIENCE], "--auth with 'jwks:…' and --jwt-issuer go together"),
        (["--auth", "jwks:a", *ISSUER], "--auth with 'jwks:…' and --jwt-audience go together"),
        (["--auth", "tokens:a", *ISSUER], "--auth with 'jwks:…' and --jwt-issuer go together"),
        (AUDIENCE, "--auth with 'jwks:…' and --jwt-audience go together"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings(arguments, {})
    assert refused.value.message == said


@pytest.mark.parametrize("source", ["a.json", "tokens:", "jwks:", "token:a", ""])
def test_unknown_source_is_refused(source: str) -> None:
    with pytest.raises(BadSettings, match="--auth"):
        load_settings(["--auth", source], {})


@pytest.mark.parametrize("source", ["dst_hush", "https://user:hush@login.example/keys"])
def test_unknown_source_is_not_quoted(source: str) -> None:
    for arguments, variables in (
        (["--auth", source], {}),
        ([], {"DURABLE_STREAMS_AUTH": source}),
    ):
        with pytest.raises(BadSettings) as refused:
            load_settings(arguments, variables)
        assert "hush" not in refused.value.message


def test_server_without_sources_has_no_access_control() -> None:
    assert Settings().authenticator() is None


def test_both_sources_are_used(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(usual_key_set())
    arguments = ["--auth", f"tokens:{empty_token_file(tmp_path)}", "--auth", f"jwks:{keys}"]
    rules = ["--jwt-algorithm", "EdDSA", "--jwt-leeway", "5"]
    settings = load_settings([*arguments, *ISSUER, *AUDIENCE, *rules], {}).settings
    authenticator = settings.authenticator()
    assert authenticator is not None
    assert authenticator._rules == JwtRules("https://login.example", "streams", ("EdDSA",), 5)


def test_broken_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    broken = tmp_path / "tokens.json"
    broken.write_text("{")
    settings = load_settings(["--auth", f"tokens:{broken}"], {}).settings
    with pytest.raises(ValueError, match=r"tokens\.json: it is not JSON"):
        settings.authenticator()


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [
        ([], ()),
        (["--host", "::1"], ()),
        (
            ["--allowed-host", "a.example", "--allowed-host", "b.example"],
            ("a.example", "b.example"),
        ),
        (["--host", "0.0.0.0", "--no-auth"], None),
        (["--host", "0.0.0.0", "--no-auth", "--allowed-host", "a.example"], ("a.example",)),
        (["--auth", "TOKENS"], None),
        (["--auth", "TOKENS", "--allowed-host", "a.example"], ("a.example",)),
        (["--uds", "/run/s.sock"], None),
    ],
)
def test_hosts_are_checked_on_loopback_without_access_control_and_if_they_are_listed(
    arguments: list[str], hosts: tuple[str, ...] | None, tmp_path: Path
) -> None:
    tokens = f"tokens:{empty_token_file(tmp_path)}"
    given = [tokens if each == "TOKENS" else each for each in arguments]
    access = load_settings(given, {}).settings.access_control()
    assert access.allowed_hosts == hosts
    assert (access.authenticator is None) is (tokens not in given)


@pytest.mark.parametrize(
    ("arguments", "refuses"),
    [
        ([], True),
        (["--cors-origin", "none"], True),
        (["--host", "0.0.0.0", "--no-auth", "--allowed-host", "a.example"], False),
        (["--auth", "TOKENS"], False),
        (["--uds", "/run/s.sock"], False),
    ],
)
def test_foreign_writes_are_refused_on_loopback_without_access_control(
    arguments: list[str], refuses: bool, tmp_path: Path
) -> None:
    tokens = f"tokens:{empty_token_file(tmp_path)}"
    given = [tokens if each == "TOKENS" else each for each in arguments]
    assert load_settings(given, {}).settings.access_control().refuse_foreign_writes is refuses
