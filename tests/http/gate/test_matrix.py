"""The permission matrix: one expected status for each route, method and kind of token, over both lanes (TRAPS 41)."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from durable_streams_server import AccessControl, StreamStore, create_app
from durable_streams_server.http.control.routes import ROUTES
from durable_streams_server.protocol.permissions import VERBS
from tests.access.provider import NOW, issue
from tests.http.asgi_driver import Answer
from tests.http.gate.tokens import APP, EVERYTHING, Guarded, bearer, cookie, signed
from tests.http.lanes import Caller

A = "/v1/stream/a"
CONTROL = "/v1/stream/__ds"
TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
SUBSCRIPTION = {"type": "pull-wake", "pattern": "a", "wake_stream": "wake", "lease_ttl_ms": 60_000}


class Row(NamedTuple):
    """A request, and its expected status for each kind of token, in the order of KINDS."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    statuses: str


def row(statuses: str, method: str, url: str, headers: Any = (), body: bytes = b"") -> Row:
    return Row(method, url, dict(headers), body, statuses)


#: `other` has every verb on other paths, `verbs` every verb but those that the row needs, and `admin` the verb `admin` alone.
KINDS = [
    "none",
    "broken",
    "expired",
    "revoked",
    "all",
    "jwt",
    "cookie",
    "foreign",
    "signed",
    "other",
    "verbs",
    "admin",
    "worker",
]

MATRIX = {
    "create": row(
        "401  401    401     401     201   201   201    401     401    403   403   403   401",
        "PUT", "/v1/stream/new", TEXT, b"x",
    ),
    "fork": row(
        "401  401    401     401     201   201   201    401     401    403   403   403   401",
        "PUT", "/v1/stream/new", {"stream-forked-from": A},
    ),
    "append": row(
        "401  401    401     401     204   204   204    401     401    403   403   403   401",
        "POST", A, TEXT, b"x",
    ),
    "close": row(
        "401  401    401     401     204   204   204    401     401    403   403   403   401",
        "POST", A, {"stream-closed": "true"},
    ),
    "append and close": row(
        "401  401    401     401     204   204   204    401     401    403   403   403   401",
        "POST", A, {**TEXT, "stream-closed": "true"}, b"x",
    ),
    "read": row(
        "401  401    401     401     200   200   200    401     200    403   403   403   401",
        "GET", A,
    ),
    "head": row(
        "401  401    401     401     200   200   200    401     200    403   403   403   401",
        "HEAD", A,
    ),
    "long-poll": row(
        "401  401    401     401     200   200   200    401     200    403   403   403   401",
        "GET", f"{A}?offset=-1&live=long-poll",
    ),
    "sse": row(
        "401  401    401     401     200   200   200    401     200    403   403   403   401",
        "GET", "/v1/stream/ended?offset=-1&live=sse",
    ),
    "delete": row(
        "401  401    401     401     204   204   204    401     401    403   403   403   401",
        "DELETE", A,
    ),
    "missing": row(
        "401  401    401     401     404   404   404    401     404    403   403   403   401",
        "GET", "/v1/stream/missing",
    ),
    "public": row(
        "200  401    401     401     200   200   200    200     200    200   200   200   401",
        "GET", "/v1/stream/public",
    ),
    "append to public": row(
        "401  401    401     401     204   204   204    401     401    403   403   403   401",
        "POST", "/v1/stream/public", TEXT, b"x",
    ),
    "unknown method": row(
        "405  405    405     405     405   405   405    405     405    405   405   405   405",
        "PATCH", A,
    ),
    "preflight": row(
        "204  204    204     204     204   204   204    204     204    204   204   204   204",
        "OPTIONS", A,
    ),
    "healthz": row(
        "200  200    200     200     200   200   200    200     200    200   200   200   200",
        "GET", "/healthz",
    ),
    "readyz": row(
        "200  200    200     200     200   200   200    200     200    200   200   200   200",
        "HEAD", "/readyz",
    ),
    "metrics": row(
        "401  401    401     401     200   200   200    401     401    403   403   200   401",
        "GET", "/metrics",
    ),
    "info": row(
        "401  401    401     401     200   200   200    401     401    403   403   200   401",
        "GET", f"{CONTROL}/info",
    ),
    "streams": row(
        "401  401    401     401     200   200   200    401     401    403   403   200   401",
        "GET", f"{CONTROL}/streams",
    ),
    "openapi.json": row(
        "200  200    200     200     200   200   200    200     200    200   200   200   200",
        "GET", f"{CONTROL}/openapi.json",
    ),
    "jwks.json": row(
        "200  200    200     200     200   200   200    200     200    200   200   200   200",
        "GET", f"{CONTROL}/jwks.json",
    ),
    "PUT subscriptions/{id}": row(
        "401  401    401     401     201   201   201    401     401    403   403   403   401",
        "PUT", f"{CONTROL}/subscriptions/new", JSON, json.dumps(SUBSCRIPTION).encode(),
    ),
    "GET subscriptions/{id}": row(
        "401  401    401     401     200   200   200    401     401    404   403   403   401",
        "GET", f"{CONTROL}/subscriptions/s",
    ),
    "DELETE subscriptions/{id}": row(
        "401  401    401     401     204   204   204    401     401    404   403   403   401",
        "DELETE", f"{CONTROL}/subscriptions/s",
    ),
    "POST subscriptions/{id}/streams": row(
        "401  401    401     401     204   204   204    401     401    403   403   403   401",
        "POST", f"{CONTROL}/subscriptions/s/streams", JSON, b'{"streams": ["ended"]}',
    ),
    "DELETE subscriptions/{id}/streams/{path}": row(
        "401  401    401     401     204   204   204    401     401    404   403   403   401",
        "DELETE", f"{CONTROL}/subscriptions/s/streams/ended",
    ),
    "POST subscriptions/{id}/claim": row(
        "401  401    401     401     200   200   200    401     401    404   403   403   401",
        "POST", f"{CONTROL}/subscriptions/free/claim", JSON, b'{"worker": "w"}',
    ),
    "POST subscriptions/{id}/callback": row(
        "401  401    401     401     401   401   401    401     401    401   401   401   200",
        "POST", f"{CONTROL}/subscriptions/s/callback", JSON, b"WAKE",
    ),
    "POST subscriptions/{id}/ack": row(
        "401  401    401     401     401   401   401    401     401    401   401   401   200",
        "POST", f"{CONTROL}/subscriptions/s/ack", JSON, b"WAKE",
    ),
    "POST subscriptions/{id}/release": row(
        "401  401    401     401     401   401   401    401     401    401   401   401   204",
        "POST", f"{CONTROL}/subscriptions/s/release", JSON, b"WAKE",
    ),
    "unknown control route": row(
        "401  401    401     401     404   404   404    401     401    403   403   404   401",
        "GET", f"{CONTROL}/unknown",
    ),
}  # fmt: skip


class Site:
    """An application with streams, subscriptions and tokens of all kinds.

    Args:
        guarded: has the tokens.
        native: whether requests come over the native lane.
    """

    def __init__(self, guarded: Guarded, native: bool) -> None:
        store = StreamStore()
        self.app = create_app(
            store=store, access=AccessControl(guarded.authenticator), cors=[APP], clock=lambda: NOW
        )
        self.app.begin()
        self.call = Caller(self.app, native)
        self.wake: dict[str, Any] = {"wake_id": "", "generation": 0}

    async def create_streams(self) -> None:
        """Creates the streams that the rows name."""
        streams = self.app.streams
        await streams.create(A, "text/plain", initial_data=b"secret")
        await streams.create("/v1/stream/ended", "text/plain", initial_data=b"x", closed=True)
        await streams.create("/v1/stream/public", "text/plain", initial_data=b"x", public=True)

    async def subscribe(self, everything: dict[str, str]) -> None:
        """Creates two subscriptions whose wakes are in flight. A worker has claimed that of `s`."""
        await self.app.streams.create("/v1/stream/wake", "application/json")
        for id_ in ("s", "free"):
            url = f"{CONTROL}/subscriptions/{id_}"
            body = json.dumps(SUBSCRIPTION).encode()
            assert (await self.call("PUT", url, {**JSON, **everything}, body)).status == 201
        await self.app.streams.append(A, b"x")
        claim = await self.call(
            "POST", f"{CONTROL}/subscriptions/s/claim", {**JSON, **everything}, b'{"worker": "w"}'
        )
        assert claim.status == 200
        self.wake = json.loads(claim.body)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    return Guarded(tmp_path_factory.mktemp("tokens"), native=False)


@pytest.fixture(scope="module")
def tokens(guarded: Guarded) -> dict[str, str]:
    """The tokens that do not depend on the row."""
    all_ = guarded.token(EVERYTHING)
    revoked = guarded.token(EVERYTHING)
    guarded.revoke(revoked)
    expired = guarded.token(EVERYTHING, seconds=-1)
    return {
        "broken": all_[:-1] + ("A" if all_[-1] != "A" else "E"),
        "expired": expired,
        "revoked": revoked,
        "all": all_,
        "jwt": issue(streams=[{"verbs": list(VERBS), "paths": ["/**"]}]),
        "other": guarded.token(f"{','.join(VERBS)}:/v1/stream/other/**"),
        "admin": guarded.token("admin:/**"),
    }


#: The verbs that each row needs, besides those of its name. A token without them gets 403.
NEEDS = {
    "append and close": {"append", "close"},
    "head": {"read"},
    "long-poll": {"read"},
    "sse": {"read"},
    "missing": {"read"},
    "public": {"read"},
    "append to public": {"append"},
    "unknown control route": {"admin"},
    "info": {"admin"},
    "streams": {"admin"},
    "metrics": {"admin"},
}


def needed(name: str) -> set[str]:
    """Returns the verbs that a row needs."""
    return NEEDS.get(name, {"subscribe"} if "subscriptions" in name else {name})


def request_of(
    kind: str, row: Row, tokens: dict[str, str], guarded: Guarded, site: Site, name: str
) -> tuple[str, dict[str, str]]:
    """Returns the URL and the credentials of a request with one kind of token."""
    if kind == "none":
        return row.url, {}
    if kind == "cookie":
        return row.url, cookie(tokens["all"], origin=APP)
    if kind == "foreign":
        return row.url, cookie(tokens["all"], origin="https://evil.example")
    if kind == "signed":
        return signed(row.url, tokens["all"]), {}
    if kind == "worker":
        return row.url, bearer(site.wake["token"])
    if kind == "verbs":
        verbs = [verb for verb in VERBS if verb not in needed(name)]
        return row.url, bearer(guarded.token(f"{','.join(verbs)}:/**"))
    return row.url, bearer(tokens[kind])


@pytest.mark.parametrize("native", [True, False], ids=["native", "asgi"])
@pytest.mark.parametrize("name", MATRIX)
async def test_matrix(name: str, native: bool, guarded: Guarded, tokens: dict[str, str]) -> None:
    row = MATRIX[name]
    found = []
    for kind in KINDS:
        site = Site(guarded, native)
        await site.create_streams()
        if "subscriptions" in name or kind == "worker":
            await site.subscribe(bearer(tokens["all"]))
        url, credentials = request_of(kind, row, tokens, guarded, site, name)
        wake = {"wake_id": site.wake["wake_id"], "generation": site.wake["generation"]}
        body = row.body.replace(b"WAKE", json.dumps(wake).encode())
        answer = await site.call(row.method, url, {**row.headers, **credentials}, body)
        found.append(answer.status)
        check(answer, row, name)
    assert dict(zip(KINDS, found, strict=True)) == dict(
        zip(KINDS, map(int, row.statuses.split()), strict=True)
    )


def check(answer: Answer, row: Row, name: str) -> None:
    """Checks what each response must have, whoever asks."""
    cache = answer.headers.get("cache-control", "")
    if answer.status in (401, 403):
        assert cache == "no-store"
        assert ("www-authenticate" in answer.headers) is (answer.status == 401)
        assert b"secret" not in answer.body
    elif (
        row.method in ("GET", "HEAD")
        and answer.status == 200
        and name not in ("public", "jwks.json", "openapi.json")
    ):
        assert cache in ("private, no-store", "private, no-store, no-transform")  # TRAPS 42
    elif answer.status >= 400:
        assert cache == "no-store"


def test_matrix_has_each_control_route() -> None:
    for route in ROUTES:
        for method in route.methods:
            name = route.template if route.template in MATRIX else f"{method} {route.template}"
            assert name in MATRIX
