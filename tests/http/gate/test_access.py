"""`Access`: who may do what, by the token of a request."""

from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_server import CreateOptions
from durable_streams_server.errors import (
    Forbidden,
    NotFound,
    StreamDamaged,
    StreamError,
    Unauthorized,
    Unavailable,
)
from durable_streams_server.http.gate.access import Access
from durable_streams_server.http.gate.credentials import Credentials
from durable_streams_server.http.gate.permit import ANYONE, Permit
from durable_streams_server.http.request import Request
from durable_streams_server.http.targets import Targets
from durable_streams_server.protocol.permissions import Claims, parse_grant
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.ticket import Abandoned, Cancelled, Ticket
from durable_streams_server.streams.stream_store import StreamStore
from tests.http.gate.tokens import Guarded

A = "/v1/stream/a"
READ = Claims("token:r", (parse_grant("read:/v1/stream/*"),))


class Answers:
    """An authenticator that answers with a function, and counts its calls."""

    def __init__(self, answer: Callable[[str], Claims | Ticket[Claims]]) -> None:
        self.generation = 0
        self.calls = 0
        self.answer = answer

    def authenticate(self, token: str, now: int) -> Claims | Ticket[Claims]:
        self.calls += 1
        return self.answer(token)

    def verify_url(self, path: str, query: bytes, now: int) -> Claims | None:
        return READ if path in query.decode() else None


def state(public: bool) -> Ticket[StreamState]:
    """Returns a ticket for the state of a stream."""
    store = StreamStore()
    store.create(A, "text/plain", CreateOptions(public=public))
    found = store.find(A).result()
    assert found is not None
    return Ticket.of(found)


class Site:
    """An `Access` whose streams are found by a function, at a time that a test sets."""

    def __init__(self, answer: Callable[[str], Claims | Ticket[Claims]]) -> None:
        self.now = 0
        self.found: Ticket[StreamState] = Ticket.failed(NotFound("there is no stream"))
        self.authenticator = Answers(answer)
        self.access = Access(
            self.authenticator,
            Credentials(),
            Targets("/v1/stream"),
            lambda _: self.found,
            lambda: self.now,
        )

    def ask(
        self, method: str = "GET", token: str | None = "t", query: bytes = b""
    ) -> Permit | Ticket[Permit]:
        headers = {} if token is None else {b"authorization": b"Bearer " + token.encode()}
        return self.access.authorize(Request(method, A.encode(), query, headers))


def refusal_of(ask: Callable[[], object]) -> StreamError:
    """Returns the error that a call raises, or with which its ticket fails."""
    try:
        answer = ask()
    except StreamError as refusal:
        return refusal
    assert isinstance(answer, Ticket)
    with pytest.raises(StreamError) as caught:
        answer.result()
    return caught.value


def test_token_that_allows_an_action_gets_a_permit() -> None:
    site = Site(lambda _: Claims("token:r", READ.grants, expires_at=50))
    permit = site.ask()
    assert isinstance(permit, Permit)
    assert (permit.client, permit.until) == ("token:r", 50)
    assert permit.may("read", A)


def test_same_request_is_decided_once_until_tokens_change_or_the_token_expires() -> None:
    site = Site(lambda _: Claims("token:r", READ.grants, expires_at=50))
    assert site.ask() is site.ask()
    assert site.authenticator.calls == 1
    site.ask("HEAD")  # the same action
    assert site.authenticator.calls == 1
    site.authenticator.generation += 1
    site.ask()
    assert site.authenticator.calls == 2
    site.now = 50
    site.ask()
    assert site.authenticator.calls == 3


def test_kept_permits_are_bounded() -> None:
    site = Site(lambda _: READ)
    for number in range(5000):
        site.ask(token=str(number))
    assert len(site.access._permits) <= 4096


def test_token_that_does_not_allow_an_action_gets_403() -> None:
    refusal = refusal_of(lambda: Site(lambda _: READ).ask("DELETE"))
    assert isinstance(refusal, Forbidden)
    assert refusal.code == "FORBIDDEN"


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_request_without_token_gets_401(method: str) -> None:
    refusal = refusal_of(lambda: Site(lambda _: READ).ask(method, None))
    assert isinstance(refusal, Unauthorized)
    assert refusal.code == "TOKEN_REQUIRED"


def test_signed_url_counts_for_reads_of_its_path() -> None:
    site = Site(lambda _: READ)
    signed = site.ask(token=None, query=f"signature={A}".encode())
    assert isinstance(signed, Permit)
    assert refusal_of(lambda: site.ask(token=None, query=b"signature=")).code == "TOKEN_REQUIRED"
    keys = b"/v1/stream/__ds/subscriptions/s"
    control = Request("GET", keys, b"signature=" + keys, {})
    assert refusal_of(lambda: site.access.authorize(control)).code == "TOKEN_REQUIRED"


@pytest.mark.parametrize(
    "found",
    [
        state(public=False),
        Ticket.failed(NotFound("there is no stream")),
        Ticket.failed(StreamDamaged("damaged")),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_stream_that_is_not_public_gets_same_refusal_as_one_that_does_not_exist(
    found: Ticket[StreamState], waits: bool
) -> None:
    site = Site(lambda _: Claims("token:n", ()))
    site.found = Ticket() if waits else found
    for token, code in ((None, "TOKEN_REQUIRED"), ("t", "FORBIDDEN")):
        if waits:
            site.found = Ticket()
            answer = site.ask(token=token)
            site.found._copy(found)
            assert refusal_of(lambda: answer).code == code  # noqa: B023  (called at once)
        else:
            assert refusal_of(lambda: site.ask(token=token)).code == code  # noqa: B023  (called at once)


@pytest.mark.parametrize("token", [None, "t"])
def test_anyone_may_read_public_stream(token: str | None) -> None:
    site = Site(lambda _: Claims("token:n", ()))
    site.found = state(public=True)
    assert site.ask(token=token) is ANYONE
    site.found = Ticket()
    waiting = site.ask(token=token)
    assert isinstance(waiting, Ticket)
    assert not waiting.done
    site.found._copy(state(public=True))
    assert waiting.result() is ANYONE


def test_client_that_leaves_ends_search_for_public_stream() -> None:
    site = Site(lambda _: READ)
    site.found = Ticket()
    waiting = site.ask(token=None)
    assert isinstance(waiting, Ticket)
    waiting.cancel()
    with pytest.raises(Cancelled):
        site.found.result()


def test_stopped_store_is_not_taken_for_a_missing_stream() -> None:
    site = Site(lambda _: READ)
    site.found = Ticket()
    waiting = site.ask(token=None)
    assert isinstance(waiting, Ticket)
    site.found.fail(Abandoned(OSError("disk")))
    with pytest.raises(Abandoned):
        waiting.result()
    with pytest.raises(Abandoned):
        site.ask(token=None)


def test_permit_waits_for_keys() -> None:
    keys: Ticket[Claims] = Ticket()
    site = Site(lambda _: keys)
    waiting = site.ask()
    assert isinstance(waiting, Ticket)
    assert not waiting.done
    keys.resolve(READ)
    assert waiting.result().client == "token:r"


def test_refusal_waits_for_keys() -> None:
    keys: Ticket[Claims] = Ticket()
    site = Site(lambda _: keys)
    waiting, forbidden = site.ask(), site.ask("DELETE")
    keys.resolve(Claims("token:n", ()))
    assert refusal_of(lambda: waiting).code == "FORBIDDEN"
    assert refusal_of(lambda: forbidden).code == "FORBIDDEN"
    site.found = state(public=True)
    public = site.ask()
    assert isinstance(public, Ticket)
    assert public.result() is ANYONE


def raising(error: Exception) -> Callable[[str], Claims]:
    def answer(_: str) -> Claims:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "holds"),
    [
        (lambda _: READ, True),
        (lambda _: Claims("token:r", ()), False),
        (raising(Unauthorized("revoked")), False),
        (raising(Unavailable("no keys")), True),
        (lambda _: Ticket(), True),
    ],
)
def test_permit_holds_while_token_would_still_be_accepted(
    answer: Callable[[str], Claims | Ticket[Claims]], holds: bool
) -> None:
    site = Site(lambda _: READ)
    permit = site.ask()
    assert isinstance(permit, Permit)
    assert permit.still_holds is not None
    site.authenticator.answer = answer
    assert permit.still_holds()  # nothing has changed, so no token is read again
    assert site.authenticator.calls == 1
    site.authenticator.generation += 1
    assert permit.still_holds() is holds


def test_permit_shows_no_token() -> None:
    permit = Site(lambda _: READ).ask(token="topsecret")
    assert "topsecret" not in repr(permit)


async def test_large_body_without_token_is_not_received(tmp_path: Path) -> None:
    for native in (True, False):
        call = Guarded(tmp_path, native).caller()
        answer = await call.without_body("PUT", A, {"content-type": "text/plain"}, 1_000_000)
        assert answer.status == 401
