"""Access is decided on the path that routes, however the path is spelled, and refusals tell nothing about streams (TRAPS 41)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_streams_server.protocol.permissions import VERBS
from tests.access.provider import issue
from tests.http.asgi_driver import request as over_asgi
from tests.http.gate.tokens import APP, EVERYTHING, Guarded, bearer, cookie

A = "/v1/stream/a"
CONTROL = "/v1/stream/__ds"
TEXT = {"content-type": "text/plain"}

#: What a client may see of `/v1/stream/a` under each spelling of its path: the status with a token for this path alone, and with a token
#: for everything below `/v1/stream/b` and `/v1/stream/__ds`.
SPELLINGS = {
    "/v1/stream/a": (200, 403),
    "/v1/stream/%61": (200, 403),
    "/v1/%73tream/a": (200, 403),
    "/v1%2Fstream%2fa": (200, 403),
    "/v1/stream/a?offset=-1": (200, 403),
    "//v1/stream/a": (400, 400),
    "/v1//stream/a": (400, 400),
    "/v1/stream//a": (400, 400),
    "/v1/stream/%2Fa": (400, 400),
    "/v1/./stream/a": (400, 400),
    "/v1/stream/./a": (400, 400),
    "/v1/stream/b/../a": (400, 400),
    "/v1/stream/b/%2e%2e/a": (400, 400),
    "/v1/stream/b%2F..%2Fa": (400, 400),
    "/v1/stream/%2e/a": (400, 400),
    "/v1/stream/a%00": (400, 400),
    "/v1/stream/a%": (400, 400),
    "/v1/stream/%ff": (400, 400),
    "/v1/stream/a/": (403, 403),
    "/v1/stream/a%20": (403, 403),
    "/v1/stream/A": (403, 403),
    "/V1/stream/a": (403, 403),
    "/v1/stream/%2561": (403, 403),
    "/v1/stream/b/a": (403, 404),
    "/v1/stream/__ds": (404, 404),
    "/v1/stream/__ds/../a": (400, 400),
    "/v1/stream/%5f%5fds/unknown": (403, 404),
    "http://h/v1/stream/a": (200, 403),
}


#: Each spelling with each lane. Over ASGI, a host server splits absolute URLs before it calls the application.
LANES = [
    pytest.param(spelling, is_native, id=f"{spelling}-{'native' if is_native else 'asgi'}")
    for spelling in SPELLINGS
    for is_native in (True, False)
    if is_native or spelling.startswith("/")
]


@pytest.mark.parametrize(("spelling", "native"), LANES)
async def test_access_is_decided_on_the_path_that_routes(
    spelling: str, native: bool, tmp_path: Path
) -> None:
    """TRAPS 41"""
    site = Guarded(tmp_path, native)
    own = site.token(f"{','.join(VERBS)}:{A}")
    other = site.token(f"{','.join(VERBS)}:/v1/stream/b/**", f"{','.join(VERBS)}:{CONTROL}/**")
    call = site.caller()
    await site.app.streams.create(A, "text/plain", initial_data=b"secret")
    with_own = await call("GET", spelling, bearer(own))
    with_other = await call("GET", spelling, bearer(other))
    assert (with_own.status, with_other.status) == SPELLINGS[spelling]
    assert b"secret" not in with_other.body
    without = await call("GET", spelling)
    assert without.status == (
        401 if SPELLINGS[spelling] not in ((400, 400), (404, 404)) else with_own.status
    )
    for method in ("HEAD", "PUT", "POST", "DELETE"):
        body = b"x" if method in ("PUT", "POST") else b""
        headers = {**TEXT, **bearer(other)}
        refused = await call(method, spelling, headers, body)
        if with_other.status != 404:
            assert refused.status == with_other.status
    page = await site.app.streams.read(A)
    assert (page.data, page.closed) == (b"secret", False)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("/streams/a", True),
        ("/streams/%61", True),
        ("/%73treams/a", True),
        ("/streams//a", None),
        ("/streams/b/../a", None),
        ("/streams/streams/a", False),
        ("/streams", None),
    ],
)
async def test_access_of_mounted_application_is_decided_below_the_mount(
    url: str, allowed: bool | None, tmp_path: Path
) -> None:
    """TRAPS 41"""
    site = Guarded(tmp_path, native=False)
    own = site.token("read:/a")
    site.app.begin()
    await site.app.streams.create("/a", "text/plain", initial_data=b"x")
    answer = await over_asgi(site.app, "GET", url, bearer(own), root_path="/streams")
    assert answer.status in ((200,) if allowed else (403,) if allowed is False else (400, 404))


def unauthorized(site: Guarded) -> Iterator[dict[str, str]]:
    """Yields the headers of clients that may do nothing with the streams of the test."""
    yield {}
    yield bearer("nonsense")
    yield bearer(site.token("read,append:/v1/stream/other"))
    yield bearer(issue(streams=[{"verbs": list(VERBS), "paths": ["/v1/stream/other"]}]))
    yield cookie(site.token(EVERYTHING), origin="https://evil.example")


@pytest.mark.parametrize("native", [True, False], ids=["native", "asgi"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
async def test_refusal_does_not_tell_whether_a_stream_exists(
    method: str, native: bool, tmp_path: Path
) -> None:
    site = Guarded(tmp_path, native)
    call = site.caller()
    streams = site.app.streams
    await streams.create(A, "text/plain", initial_data=b"x")
    await streams.create("/v1/stream/ended", "text/plain", closed=True)
    await streams.create("/v1/stream/gone", "text/plain")
    await streams.create("/v1/stream/fork", forked_from="/v1/stream/gone")
    await streams.delete("/v1/stream/gone")  # is kept for its fork, so a GET returns 410
    for credentials in unauthorized(site):
        for query in ("", "?offset=now&live=long-poll", "?offset=-1&live=sse"):
            answers = []
            for name in ("a", "ended", "gone", "missing"):
                headers = {**TEXT, "origin": APP, **credentials}
                body = b"x" if method in ("PUT", "POST") else b""
                answer = await call(method, f"/v1/stream/{name}{query}", headers, body)
                assert answer.status in (401, 403)
                pairs = [pair for pair in answer.pairs if pair[0] not in (b"date", b"x-request-id")]
                answers.append((answer.status, pairs, answer.body))
            assert all(answer == answers[0] for answer in answers)
