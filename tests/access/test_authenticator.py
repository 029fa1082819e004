"""Tests of the authenticator: which token goes to which verifier, what is cached, and what a reload changes."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from durable_streams_server.access import json_tokens, token_file
from durable_streams_server.access.authenticator import Authenticator, open_keys
from durable_streams_server.access.fetch import FetchFailed
from durable_streams_server.access.key_sources import (
    REFRESH_SECONDS,
    UNKNOWN_KEY_SECONDS,
    KeyFile,
    KeySource,
    KeyUrl,
)
from durable_streams_server.access.signed_urls import sign_url
from durable_streams_server.access.static_tokens import StaticToken, create_text, parse_token
from durable_streams_server.errors import Unauthorized, Unavailable
from durable_streams_server.protocol.permissions import Claims, grant_of
from durable_streams_server.protocol.units import SECOND
from durable_streams_server.storage.ticket import Ticket
from tests.access.provider import NOW, NOW_SECONDS, RULES, issue, usual_key_set
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.services import run_turns

GRANTS = (grant_of(["read"], ["/v1/stream/chat/*"]),)


def stored(text: str, expires_at: int | None = None) -> StaticToken:
    presented = parse_token(text)
    assert presented is not None
    return StaticToken(presented.id, presented.hash, GRANTS, expires_at=expires_at)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file with no token."""
    path = tmp_path / "tokens.json"
    token_file.add(path, stored("dst_000000000000_" + "A" * 43))
    return path


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with the keys of the provider."""
    path = tmp_path / "keys.json"
    path.write_bytes(usual_key_set())
    return path


class Verifications:
    """Counts how often a signature is verified."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = json_tokens.verify

        def verify(*arguments: object) -> Claims:
            self.count += 1
            return real(*arguments)  # type: ignore[arg-type]  # the arguments are passed on

        monkeypatch.setattr(json_tokens, "verify", verify)


def code_of(authenticator: Authenticator, token: str, now: int = NOW) -> str:
    """Returns the code with which a token is refused at once."""
    with pytest.raises(Unauthorized) as caught:
        authenticator.authenticate(token, now)
    return str(caught.value.code)


def test_static_token_is_recognised(tokens: Path) -> None:
    text = create_text()
    token_file.add(tokens, stored(text, NOW + SECOND))
    authenticator = Authenticator(tokens=tokens)
    assert authenticator.authenticate(text, NOW) == stored(text, NOW + SECOND).claims
    assert code_of(authenticator, text, NOW + SECOND) == "TOKEN_EXPIRED"
    assert code_of(authenticator, create_text()) == "INVALID_TOKEN"
    assert code_of(authenticator, "") == "INVALID_TOKEN"


def test_json_token_is_recognised(keys: Path) -> None:
    authenticator = Authenticator(keys=str(keys), rules=RULES)
    claims = authenticator.authenticate(issue(), NOW)
    assert isinstance(claims, Claims)
    assert claims.subject == "jwt:ann"
    assert code_of(authenticator, issue(aud="other")) == "INVALID_TOKEN"
    assert code_of(authenticator, issue(), NOW + 700 * SECOND) == "TOKEN_EXPIRED"


def test_both_kinds_work_together_and_neither_passes_for_the_other(
    tokens: Path, keys: Path
) -> None:
    text = create_text()
    token_file.add(tokens, stored(text))
    both = Authenticator(tokens=tokens, keys=str(keys), rules=RULES)
    static, signed = both.authenticate(text, NOW), both.authenticate(issue(), NOW)
    assert isinstance(static, Claims)
    assert isinstance(signed, Claims)
    assert {static.subject, signed.subject} == {f"token:{text.split('_')[1]}", "jwt:ann"}
    fake = both.authenticate(issue(sub=static.subject), NOW)
    assert isinstance(fake, Claims)
    assert fake.subject == f"jwt:{static.subject}"
    assert code_of(Authenticator(tokens=tokens), issue()) == "INVALID_TOKEN"
    assert code_of(Authenticator(keys=str(keys), rules=RULES), text) == "INVALID_TOKEN"


def test_signature_of_a_known_token_is_verified_once(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator = Authenticator(keys=str(keys), rules=RULES)
    verifications = Verifications(monkeypatch)
    token = issue()
    first = authenticator.authenticate(token, NOW)
    assert authenticator.authenticate(token, NOW) is first
    assert verifications.count == 1
    ends = (NOW_SECONDS + 630) * SECOND
    assert authenticator.authenticate(token, ends - 1) is first
    assert code_of(authenticator, token, ends) == "TOKEN_EXPIRED"
    assert verifications.count == 2


def test_refused_tokens_are_not_kept(keys: Path) -> None:
    authenticator = Authenticator(keys=str(keys), rules=RULES)
    for number in range(100):
        code_of(authenticator, issue(aud=f"other-{number}"))
        code_of(authenticator, issue(kid=f"unknown-{number}"))
        code_of(authenticator, f"a.b.{number}")
        code_of(authenticator, create_text())
    assert len(authenticator._cache) == 0


def test_reload_makes_new_tokens_valid_and_revoked_ones_invalid(tokens: Path, keys: Path) -> None:
    text = create_text()
    authenticator = Authenticator(tokens=tokens, keys=str(keys), rules=RULES)
    before = authenticator.generation
    token_file.add(tokens, stored(text))
    assert code_of(authenticator, text) == "INVALID_TOKEN"
    authenticator.reload()
    assert authenticator.authenticate(text, NOW)
    assert authenticator.generation != before
    before = authenticator.generation
    query = urlsplit(sign_url("https://h/v1/stream/chat/a", text, NOW_SECONDS + 60)).query.encode()
    assert authenticator.verify_url("/v1/stream/chat/a", query, NOW)
    token_file.remove(tokens, stored(text).id)
    authenticator.reload()
    assert code_of(authenticator, text) == "INVALID_TOKEN"
    with pytest.raises(Unauthorized):
        authenticator.verify_url("/v1/stream/chat/a", query, NOW)
    assert authenticator.generation != before


def test_reload_without_keys_reads_only_the_tokens(tokens: Path) -> None:
    text = create_text()
    authenticator = Authenticator(tokens=tokens)
    token_file.add(tokens, stored(text))
    authenticator.reload()
    assert authenticator.authenticate(text, NOW)
    assert authenticator.generation == 1


def test_reload_of_other_keys_ends_cached_tokens(keys: Path) -> None:
    authenticator = Authenticator(keys=str(keys), rules=RULES)
    token = issue()
    assert authenticator.authenticate(token, NOW)
    keys.write_bytes(usual_key_set("k2"))
    assert authenticator.authenticate(token, NOW)
    before = authenticator.generation
    authenticator.reload()
    assert authenticator.generation > before
    assert code_of(authenticator, token) == "INVALID_TOKEN"


def test_reload_keeps_each_broken_file_as_it_was_and_takes_the_other(
    tokens: Path, keys: Path
) -> None:
    old, new = create_text(), create_text()
    token_file.add(tokens, stored(old))
    authenticator = Authenticator(tokens=tokens, keys=str(keys), rules=RULES)
    good = tokens.read_bytes()

    tokens.write_text("broken")
    keys.write_bytes(usual_key_set("k2"))
    with pytest.raises(ValueError, match="the old tokens stay in use: ") as caught:
        authenticator.reload()
    assert str(caught.value) == f"the old tokens stay in use: {tokens}: it is not JSON"
    assert authenticator.authenticate(old, NOW)
    assert authenticator.authenticate(issue(kid="k2"), NOW)

    tokens.write_bytes(good)
    token_file.add(tokens, stored(new))
    keys.write_text("broken")
    with pytest.raises(ValueError, match="the old keys stay in use: ") as caught:
        authenticator.reload()
    assert str(caught.value) == f"the old keys stay in use: {keys}: it is not JSON"
    assert authenticator.authenticate(new, NOW)
    assert authenticator.authenticate(issue(kid="k2"), NOW)

    tokens.unlink()
    with pytest.raises(ValueError, match=r"old tokens .* No such file .*; the old keys"):
        authenticator.reload()
    assert authenticator.authenticate(new, NOW)


@pytest.mark.parametrize("kind", ["missing", "broken"])
def test_server_does_not_start_with_a_file_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.json"
    if kind == "broken":
        path.write_text("{")
    with pytest.raises(ValueError, match=r"file\.json: "):
        Authenticator(tokens=path)
    with pytest.raises(ValueError, match=r"file\.json: "):
        Authenticator(keys=str(path), rules=RULES)


def test_arguments_must_fit_together(tokens: Path, keys: Path) -> None:
    with pytest.raises(ValueError, match="needs a file of tokens or the keys of a provider"):
        Authenticator()
    with pytest.raises(ValueError, match="need an issuer and an audience"):
        Authenticator(keys=str(keys))
    with pytest.raises(ValueError, match="need an issuer and an audience"):
        Authenticator(tokens=tokens, rules=RULES)


def test_place_of_keys_is_a_file_or_a_url(keys: Path) -> None:
    assert isinstance(open_keys(str(keys), lambda: None), KeyFile)
    assert isinstance(open_keys("https://login.example/keys", lambda: None), KeyUrl)
    with pytest.raises(ValueError, match="or http:// on this machine"):
        open_keys("http://login.example/keys", lambda: None)


async def test_authenticator_without_keys_starts_and_closes(tokens: Path) -> None:
    authenticator = Authenticator(tokens=tokens)
    authenticator.start()
    await authenticator.aclose()


class Remote:
    """An authenticator whose keys are at a URL, with a provider that answers as the test says.

    Attributes:
        answer: the next answers: a document, or an exception.
        fetches: the number of fetches that have begun.
        it: the authenticator.
    """

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.fetches = 0
        self.it = Authenticator(
            keys="https://login.example/keys", rules=RULES, open_keys=self._open
        )

    def wait_for(self, token: str) -> Ticket[Claims]:
        """Returns the ticket that a token needs."""
        found = self.it.authenticate(token, NOW)
        assert isinstance(found, Ticket)
        assert not found.done
        return found

    def _open(self, place: str, on_change: Callable[[], None]) -> KeySource:
        return KeyUrl(place, on_change, self._fetch)

    async def _fetch(self) -> bytes:
        self.fetches += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_first_tokens_wait_for_the_first_fetch() -> None:
    remote = Remote(usual_key_set())
    remote.it.start()
    tickets = [remote.wait_for(issue(sub=f"user-{number}")) for number in range(3)]
    wrong = remote.wait_for(issue(aud="other"))
    unknown = remote.wait_for(issue(kid="k2"))
    assert code_of(remote.it, "a.b.c") == "INVALID_TOKEN"  # no key could make this one valid
    await run_turns()
    assert [ticket.result().subject for ticket in tickets] == [f"jwt:user-{n}" for n in range(3)]
    for ticket in (wrong, unknown):
        with pytest.raises(Unauthorized) as caught:
            ticket.result()
        assert caught.value.code == "INVALID_TOKEN"
    assert remote.fetches == 1
    await remote.it.aclose()


async def test_token_with_a_new_key_is_accepted_after_one_fetch(loop_clock: LoopClock) -> None:
    remote = Remote(usual_key_set())
    remote.it.start()
    await run_turns()
    known = issue()
    assert remote.it.authenticate(known, NOW)
    remote.answer = usual_key_set("k2")
    assert code_of(remote.it, issue(kid="k2")) == "INVALID_TOKEN"  # the last fetch was just now
    await loop_clock.forward(UNKNOWN_KEY_SECONDS)
    before = remote.it.generation
    ticket = remote.wait_for(issue(kid="k2"))
    assert remote.it.authenticate(known, NOW)  # others do not wait
    await run_turns()
    assert ticket.result().subject == "jwt:ann"
    assert remote.it.generation == before + 1
    assert code_of(remote.it, known) == "INVALID_TOKEN"  # its key is gone
    assert remote.fetches == 2
    await remote.it.aclose()


async def test_refresh_with_other_keys_ends_cached_tokens(loop_clock: LoopClock) -> None:
    remote = Remote(usual_key_set())
    remote.it.start()
    await run_turns()
    token = issue()
    assert remote.it.authenticate(token, NOW)
    generation = remote.it.generation
    await loop_clock.forward(REFRESH_SECONDS)
    assert remote.it.generation == generation
    remote.answer = usual_key_set("k2")
    await loop_clock.forward(REFRESH_SECONDS)
    assert remote.it.generation == generation + 1
    assert code_of(remote.it, token) == "INVALID_TOKEN"
    await remote.it.aclose()


async def test_provider_that_is_down_makes_tokens_unavailable_and_not_invalid() -> None:
    remote = Remote(FetchFailed("it is down"))
    remote.it.start()
    ticket = remote.wait_for(issue())
    await run_turns()
    refusals: list[Callable[[], object]] = [
        ticket.result,
        lambda: remote.it.authenticate(issue(), NOW),
    ]
    for refused in refusals:
        with pytest.raises(Unavailable) as caught:
            refused()
        assert caught.value.code == "KEYS_UNAVAILABLE"
        assert (b"retry-after", b"10") in caught.value.headers
    await remote.it.aclose()


async def test_old_keys_verify_while_the_provider_is_down(loop_clock: LoopClock) -> None:
    remote = Remote(usual_key_set())
    remote.it.start()
    await run_turns()
    remote.answer = FetchFailed("it is down")
    await loop_clock.forward(REFRESH_SECONDS)
    assert remote.fetches == 2
    assert remote.it.authenticate(issue(), NOW)
    assert code_of(remote.it, issue(kid="k2")) == "INVALID_TOKEN"
    await remote.it.aclose()


async def test_reload_fetches_the_keys_at_once() -> None:
    remote = Remote(usual_key_set())
    remote.it.start()
    await run_turns()
    remote.answer = usual_key_set("k2")
    remote.it.reload()
    await run_turns()
    assert remote.fetches == 2
    assert remote.it.authenticate(issue(kid="k2"), NOW)
    await remote.it.aclose()
