"""Live reads, kept responses and known heads of clients whose tokens expire or are revoked, over both lanes (TRAPS 43)."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from durable_streams_server.http.native.lane import Lane
from durable_streams_server.protocol.units import SECOND
from tests.http.asgi_driver import start_live_read
from tests.http.gate.tokens import EVERYTHING, Guarded, bearer, cookie, signed
from tests.http.lanes import Caller
from tests.http.socket_driver import Client, request, until

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


class LiveRead:
    """A live read over one of the lanes.

    Args:
        site: the server.
        native: whether the read comes over the native lane.
        kind: `sse` or `long-poll`.
        token: the token of the client.
    """

    def __init__(self, site: Guarded, native: bool, kind: str, token: str) -> None:
        self._client = self._exchange = None
        if native:
            self._client = Client(Lane(site.app))
            target = f"{A}?offset=now&live={kind}"
            self._client.send(request("GET", target, f"Authorization: Bearer {token}"))
        else:
            self._exchange = start_live_read(
                site.app, A, kind, "now", authorization=f"Bearer {token}"
            )

    async def end(self) -> tuple[int, bytes]:
        """Waits until the server ends the response properly. Returns the status and the body."""
        if self._exchange is not None:
            answer = await self._exchange.answer()
            return answer.status, answer.body
        assert self._client is not None
        received = self._client.wire.received
        await until(lambda: received.endswith((b"\r\n0\r\n\r\n", b"}}")) or b" 204 " in received)
        (found,) = self._client.answers("GET")
        assert not self._client.is_ended  # the connection may carry further requests
        return found.status, found.body


@pytest.fixture(params=[True, False], ids=["native", "asgi"])
def native(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


@pytest.fixture
async def site(tmp_path: Path, native: bool) -> Guarded:
    site = Guarded(tmp_path, native)
    site.app.begin()
    engine = site.app.engine
    engine.options = replace(engine.options, sse_keep_alive=0.01)
    await site.app.streams.create(A, "text/plain")
    return site


async def test_event_stream_ends_properly_when_token_expires(site: Guarded, native: bool) -> None:
    read = LiveRead(site, native, "sse", site.token(EVERYTHING, seconds=0.05))
    status, body = await read.end()
    assert status == 200
    assert body.rstrip().endswith(b"}")
    assert b"event: control" in body


async def test_long_poll_ends_properly_when_token_expires(site: Guarded, native: bool) -> None:
    read = LiveRead(site, native, "long-poll", site.token(EVERYTHING, seconds=0.05))
    assert await read.end() == (204, b"")


async def test_event_stream_ends_properly_after_token_is_revoked(
    site: Guarded, native: bool
) -> None:
    kept, token = site.token(EVERYTHING), site.token(EVERYTHING)
    read, other = LiveRead(site, native, "sse", token), LiveRead(site, native, "sse", kept)
    await until(lambda: len(site.app.engine.tails) == 2)
    site.revoke(token)
    status, body = await read.end()
    assert (status, len(site.app.engine.tails)) == (200, 1)
    assert body.rstrip().endswith(b"}")
    site.revoke(kept)
    await other.end()


async def test_long_poll_of_revoked_token_gets_401_instead_of_data(
    site: Guarded, native: bool
) -> None:
    token = site.token(EVERYTHING)
    read = LiveRead(site, native, "long-poll", token)
    await until(lambda: len(site.app.engine.tails) == 1)
    site.revoke(token)
    await site.app.streams.append(A, b"secret")
    status, body = await read.end()
    assert status == 401
    assert b"secret" not in body


async def ask(call: Caller, method: str, headers: dict[str, str], url: str = A) -> list[int]:
    """Makes the same request five times, so that its head is known and its response kept. Returns the statuses."""
    body = b"x" if method == "POST" else b""
    return [(await call(method, url, {**TEXT, **headers}, body)).status for _ in range(5)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_known_head_is_refused_once_its_token_is_revoked_or_has_expired(
    method: str, site: Guarded
) -> None:
    call = site.caller()
    revoked, expiring, kept = (
        site.token(EVERYTHING),
        site.token(EVERYTHING, seconds=9),
        site.token(EVERYTHING),
    )
    good = 204 if method == "POST" else 200
    for token in (revoked, expiring, kept):
        assert await ask(call, method, bearer(token)) == [good] * 5
    site.revoke(revoked)
    assert await ask(call, method, bearer(revoked)) == [401] * 5
    assert await ask(call, method, bearer(expiring)) == [good] * 5
    site.now += 9 * SECOND
    assert await ask(call, method, bearer(expiring)) == [401] * 5
    assert await ask(call, method, bearer(kept)) == [good] * 5


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_kept_response_is_given_only_to_clients_that_may_read(
    method: str, site: Guarded
) -> None:
    """TRAPS 42"""
    call = site.caller()
    await site.app.streams.create("/v1/stream/public", "text/plain", public=True)
    reader, other = site.token("read:/**"), site.token("read:/v1/stream/other")
    assert await ask(call, method, bearer(reader)) == [200] * 5
    assert await ask(call, method, cookie(reader)) == [200] * 5
    assert await ask(call, method, {}) == [401] * 5
    assert await ask(call, method, bearer(other)) == [403] * 5
    assert await ask(call, method, cookie(reader, origin="https://evil.example")) == [401] * 5
    for headers in ({}, bearer(reader), bearer(other)):
        assert await ask(call, method, headers, "/v1/stream/public") == [200] * 5


async def test_private_and_public_responses_are_not_mixed_up(site: Guarded) -> None:
    """TRAPS 42"""
    call = site.caller()
    await site.app.streams.create("/v1/stream/public", "text/plain", public=True)
    token = bearer(site.token("read:/**"))
    for _ in range(4):
        private = await call("GET", A, token)
        assert private.headers["cache-control"] == "private, no-store"
        for headers in ({}, token):
            public = await call("GET", "/v1/stream/public", headers)
            assert public.headers["cache-control"] == "no-cache"
    await site.app.streams.delete("/v1/stream/public")
    await site.app.streams.create("/v1/stream/public", "text/plain")
    assert await ask(call, "GET", {}, "/v1/stream/public") == [401] * 5
    again = await call("GET", "/v1/stream/public", token)
    assert again.headers["cache-control"] == "private, no-store"


async def test_signed_url_reads_until_its_time_is_over(site: Guarded) -> None:
    call = site.caller()
    url = signed(f"{A}?offset=-1", site.token("read:/**"), seconds=9)
    assert await ask(call, "GET", {}, url) == [200] * 5
    assert await ask(call, "GET", {}, url.replace(A, "/v1/stream/b")) == [401] * 5
    site.now += 9 * SECOND
    assert await ask(call, "GET", {}, url) == [401] * 5


async def test_signed_url_takes_further_parameters(site: Guarded) -> None:
    call = site.caller()
    url = signed(A, site.token("read:/**"))
    await site.app.streams.append(A, b"abc")
    first = await call("GET", f"{url}&offset=-1")
    assert first.body == b"abc"
    tail = await call("GET", f"{url}&offset=now")
    assert (tail.status, tail.body) == (200, b"")
    assert (await call("GET", f"{url}&offset=-1&offset=-1")).status == 400
