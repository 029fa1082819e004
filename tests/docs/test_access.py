"""Tests that docs/access.md says what the code does, and that its program signs URLs that the server accepts."""

import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from click.testing import CliRunner

from durable_streams_server.access import json_tokens
from durable_streams_server.access.jwt_rules import ALGORITHMS, USUAL_ALGORITHMS
from durable_streams_server.access.key_set import parse_key_set
from durable_streams_server.access.signed_urls import verify_url
from durable_streams_server.access.static_tokens import (
    StaticToken,
    StaticTokens,
    create_text,
    parse_token,
)
from durable_streams_server.access.token_file import MAX_TOKENS, add
from durable_streams_server.cli.tokens import token
from durable_streams_server.http.gate.credentials import DEFAULT_COOKIE
from durable_streams_server.protocol.permissions import (
    VERBS,
    TokenLimits,
    allows,
    grant_of,
    parse_grant,
)
from durable_streams_server.protocol.subscriptions.globs import matches
from durable_streams_server.protocol.units import SECOND
from tests.access.provider import NOW, RULES, sign_raw, usual_key_set
from tests.http.asgi_driver import request
from tests.http.gate.tokens import empty_token_file

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text()


def blocks(language: str) -> list[str]:
    """Returns the blocks of code of a language."""
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


async def test_documented_application_lets_only_clients_with_a_token_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty_token_file(tmp_path)
    _, code = blocks("python")
    program: dict[str, Any] = {}
    exec(code, program)
    answer = await request(program["app"], "GET", "/v1/stream/chat/a")
    assert answer.status == 401
    await program["app"].stop()


def test_documented_cookie_is_the_one_that_the_server_reads() -> None:
    assert f"Set-Cookie: {DEFAULT_COOKIE}=" in PAGE
    assert f"the cookie `{DEFAULT_COOKIE}`" in PAGE


@pytest.mark.parametrize("path", ["/v1/stream/chat/a", "/v1/stream/chat/ä b%&+?#"])
def test_documented_program_signs_urls_that_the_server_accepts(path: str) -> None:
    text = create_text()
    presented = parse_token(text)
    assert presented is not None
    stored = StaticToken(*presented, (grant_of(["read"], ["/v1/stream/chat/*"]),))
    code, _ = blocks("python")
    program: dict[str, Any] = {}
    exec(code, program)
    url = urlsplit(program["sign_url"]("https://h/api", path, text, 300))
    assert unquote(url.path) == f"/api{path}"
    now = int(time.time() * SECOND)
    claims = verify_url(StaticTokens((stored,)), path, url.query.encode(), now)
    assert claims is not None
    assert allows(claims, "read", path)


def test_documented_claims_are_accepted_as_documented() -> None:
    (example,) = blocks("json")
    signed = sign_raw({"alg": "EdDSA", "kid": "k1"}, json.loads(example))
    claims = json_tokens.verify(signed, parse_key_set(usual_key_set()), RULES, NOW)
    assert allows(claims, "append", "/v1/stream/chat/ann")
    assert not allows(claims, "append", "/v1/stream/news/a")
    assert claims.limits == TokenLimits(live_readers=5)


def test_page_names_every_verb_limit_and_algorithm() -> None:
    assert re.findall(r"^\| `([a-z]+)` \| to ", PAGE, re.MULTILINE) == list(VERBS)
    for name in (*TokenLimits.__struct_fields__, *ALGORITHMS):
        assert name in PAGE
    *first, last = USUAL_ALGORITHMS
    assert f"{', '.join(first)} and {last}, unless you name others" in PAGE
    assert f"at most {MAX_TOKENS:,} tokens" in PAGE


def test_patterns_on_the_page_match_what_it_says() -> None:
    rows = re.findall(r"^\| `(/[^`]+)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for pattern, said in rows:
        yes, _, no = said.partition("and not")
        for path in re.findall(r"`(/[^`]+)`", yes):
            assert matches(pattern[1:], path[1:])
        for path in re.findall(r"`(/[^`]+)`", no):
            assert not matches(pattern[1:], path[1:])


def test_documented_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    shell = "".join(blocks("console"))
    grants = tuple(map(parse_grant, re.findall(r'--allow "([^"]+)"', shell)))
    (shown_token,) = re.findall(r"^dst_\w[\w-]+$", shell, re.MULTILINE)
    presented = parse_token(shown_token)
    assert presented is not None
    add(path, StaticToken(*presented, grants))
    (words, said) = re.findall(r"token check --file tokens.json (.*)\n(.*)\n", shell)[0]
    done = CliRunner().invoke(token, ["check", "--file", str(path), *words.split()])
    assert done.output == f"{said}\n"
    for command in re.findall(r"token ((?:.*\\\n)*.*)", shell):
        shown = CliRunner().invoke(token, [command.split()[0], "--help"]).output
        assert all(flag in shown for flag in re.findall(r" (--[a-z-]+)", command)), command
