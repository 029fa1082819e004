"""Tests that tokens and secrets appear in no log of any package and in no error, whatever is wrong with them."""

import asyncio
import logging
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from durable_streams_server.access import token_file
from durable_streams_server.access.authenticator import Authenticator
from durable_streams_server.access.signed_urls import sign_url
from durable_streams_server.access.static_tokens import StaticToken, create_text, parse_token
from durable_streams_server.errors import StreamError
from durable_streams_server.protocol.permissions import Claims, grant_of
from durable_streams_server.storage.ticket import Ticket
from tests.access.key_server import key_server, ok
from tests.access.provider import NOW, NOW_SECONDS, RULES, claims, issue, sign_raw, usual_key_set

HEADER = {"alg": "EdDSA", "kid": "k1"}
PATH = "/v1/stream/a"


def bad_tokens() -> list[str]:
    """Returns tokens that are refused, each for another reason."""
    good, static = issue(), create_text()
    header, payload, signature = good.split(".")
    secret = "hush-this-is-secret"
    return [
        static,
        static[:-1],
        good[:-4] + "AAAA",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{secret}.{payload}.{signature}",
        f"{header}.{secret}.{signature}",
        issue(kid="k2"),
        issue(kid=secret),
        issue(headers={"typ": secret}, aud=secret),
        issue(iss=secret),
        issue("RS256"),
        issue(exp=5),
        issue(nbf=NOW_SECONDS + 1_000),
        sign_raw({**HEADER, "alg": secret}, claims()),
        sign_raw({**HEADER, "crit": [secret]}, claims()),
        sign_raw(HEADER, claims(exp=secret)),
        sign_raw(HEADER, claims(streams=[{secret: 1}])),
        sign_raw(HEADER, claims(streams=[{"verbs": [secret], "paths": [secret]}])),
        sign_raw(HEADER, secret),
        f"{good}{'x' * 9_000}",
    ]


def parts_of(token: str) -> list[str]:
    """Returns the parts of a token that must not appear anywhere: the secret, or the claims and the signature."""
    return [part for part in (token, *token.split(".")[1:], token[17:]) if len(part) > 12]


async def result_of(found: Claims | Ticket[Claims]) -> Claims:
    """Returns the claims that a ticket brings."""
    if isinstance(found, Claims):
        return found
    done = asyncio.Event()
    found.add_callback(lambda _: done.set())
    await done.wait()
    return found.result()


async def test_no_log_and_no_error_contains_a_token_or_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TRAPS 46. The log has the records of all packages at the level DEBUG."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpcore2", "jwt", "asyncio", "anyio", "durable_streams_server"):
        caplog.set_level(logging.DEBUG, name)
    path, text = tmp_path / "tokens.json", create_text()
    presented = parse_token(text)
    assert presented is not None
    stored = StaticToken(presented.id, presented.hash, (grant_of(["read"], ["/**"]),))
    token_file.add(path, stored)
    path.chmod(0o644)
    shown: list[str] = []
    tokens = [text, issue(), *bad_tokens()]
    async with key_server(ok(usual_key_set())) as server:
        authenticator = Authenticator(
            tokens=path, keys=f"http://127.0.0.1:{server.port}/keys", rules=RULES
        )
        authenticator.start()
        for _ in range(2):  # before and after the keys are fetched
            for token in tokens:
                try:
                    shown.append(repr(await result_of(authenticator.authenticate(token, NOW))))
                except StreamError as error:
                    shown += [*traceback.format_exception(error), repr(error.headers)]
                    shown.append(repr((error.__cause__, error.details)))
        url = sign_url(f"https://host{PATH}", text, NOW_SECONDS + 60)
        query = url.partition("?")[2]
        for changed in (query, query[:-4] + "AAAA", query.replace("expires=1", "expires=2")):
            try:
                shown.append(repr(authenticator.verify_url(PATH, changed.encode(), NOW)))
            except StreamError as error:
                shown += traceback.format_exception(error)
        path.write_text(text)
        with pytest.raises(ValueError, match="the old tokens stay in use") as caught:
            authenticator.reload()
        shown += traceback.format_exception(caught.value)
        await authenticator.aclose()
    shown += [repr(stored), repr(authenticator.__dict__), *map(repr, caplog.records)]
    shown += [record.getMessage() for record in caplog.records]
    assert any(record.name.startswith("httpcore2") for record in caplog.records)
    assert len([line for line in shown if "INVALID_TOKEN" in line or "not valid here" in line]) > 10
    secrets = [*tokens, stored.hash.hex(), repr(stored.hash), query.partition("signature=")[2]]
    for secret in {part for token in secrets for part in parts_of(token)} | {"hush-this-is"}:
        assert not [line for line in shown if secret in line]


@pytest.mark.parametrize(
    "module", ["authenticator", "places", "jwt_rules", "token_file", "signed_urls", "key_sources"]
)
def test_import_of_access_module_loads_no_heavy_package(module: str) -> None:
    code = (
        f"import durable_streams_server.access.{module}, sys\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"cryptography", "httpcore2", "anyio", "jwt"} & set(shown.stdout.split())
