"""`Targets`: a request names its stream by the decoded path below the mount, however the client spells the URL."""

from typing import Any

import pytest

from durable_streams_server import BadRequest, NotFound, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.targets import Targets
from durable_streams_server.protocol.limits import MAX_CONTROL_PATH_BYTES, MAX_PATH_BYTES
from tests.http.asgi_driver import request

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


@pytest.fixture
async def app() -> DurableStreamsApp:
    return create_app()


@pytest.fixture
def targets() -> Targets:
    return Targets("/v1/stream")


@pytest.mark.parametrize(
    ("raw_path", "root_path", "expected"),
    [
        (b"/v1/stream/%61%2fb", "", ("/v1/stream/a/b", False)),
        (b"/x/b", "/x", ("/b", False)),
        (b"/b", "/x", ("/b", False)),
        (b"/v1/stream/%5f%5fds/jwks.json", "", ("/v1/stream/__ds/jwks.json", True)),
        (b"/x/v1/stream/__ds/a", "/x", ("/v1/stream/__ds/a", True)),
        (b"/healthz", "", ("/healthz", True)),
        (b"/%72eadyz", "", ("/readyz", True)),
        (b"/x/metrics", "/x", ("/metrics", True)),
        (b"/healthz/", "", ("/healthz/", False)),
        (b"/v1/stream/__dsx", "", ("/v1/stream/__dsx", False)),
    ],
)
def test_find_returns_the_decoded_path_and_recognizes_the_routes_of_the_server(
    targets: Targets, raw_path: bytes, root_path: str, expected: tuple[str, bool]
) -> None:
    assert targets.find(raw_path, root_path) == expected


@pytest.mark.parametrize("raw_path", [b"/v1/stream/__ds", b"/x", b"/x/"])
def test_find_refuses_reserved_paths_and_the_mount_itself(
    targets: Targets, raw_path: bytes
) -> None:
    with pytest.raises(NotFound):
        targets.find(raw_path, "/x")


def test_only_control_routes_may_have_long_paths(targets: Targets) -> None:
    control = b"/v1/stream/__ds/"
    path, is_control = targets.find(control.ljust(MAX_CONTROL_PATH_BYTES, b"x"), "")
    assert (len(path), is_control) == (MAX_CONTROL_PATH_BYTES, True)
    with pytest.raises(BadRequest):
        targets.find(b"/".ljust(MAX_PATH_BYTES + 1, b"x"), "")


def test_find_caches_paths(targets: Targets) -> None:
    for _ in range(3):
        targets.find(A.encode(), "")
    assert targets.find.cache_info().hits == 2


@pytest.mark.parametrize(
    ("raw", "root_path"), [(b"/x/b", "/x"), (b"/b", "/x"), (b"/%62", ""), (b"/b", "")]
)
def test_decode_source_removes_the_mount(targets: Targets, raw: bytes, root_path: str) -> None:
    assert targets.decode_source(raw, root_path) == "/b"


def test_decode_source_refuses_reserved_paths(targets: Targets) -> None:
    with pytest.raises(NotFound):
        targets.decode_source(b"/x/v1/stream/__ds/a", "/x")


@pytest.mark.parametrize(
    ("scope", "host", "location"),
    [
        ({"scheme": "https"}, "h", "https://h/a%20b"),
        ({"root_path": "/x"}, "h", "http://h/x/a%20b"),
        ({"root_path": "/x/"}, None, "/x/a%20b"),
    ],
)
async def test_location_has_the_scheme_host_and_mount_that_the_client_used(
    app: DurableStreamsApp, scope: dict[str, Any], host: str | None, location: str
) -> None:
    prefix = scope.get("root_path", "").rstrip("/")
    headers = {**TEXT, **({"host": host} if host else {})}
    answer = await request(app, "PUT", f"{prefix}/a%20b", headers, **scope)
    assert answer.headers["location"] == location


@pytest.mark.parametrize("root_path", ["/x", "/x/", "x", "x/", "//x", "/x//"])
@pytest.mark.parametrize("is_stripped", [True, False])
async def test_mount_works_with_any_number_of_slashes(
    app: DurableStreamsApp, root_path: str, is_stripped: bool
) -> None:
    """Some hosts pass the path with the root path, as ASGI requires, and some without it, because a proxy has removed it."""
    path = A if is_stripped else "/x" + A
    made = await request(app, "PUT", path, {**TEXT, "host": "h"}, b"abc", root_path=root_path)
    assert (made.status, made.headers["location"]) == (201, f"http://h/x{A}")
    assert (await request(app, "GET", A)).body == b"abc"
    for bare in ("/x", "/x/"):
        assert (await request(app, "GET", bare, root_path=root_path)).status == 404


async def test_streams_are_identified_by_the_decoded_path(app: DurableStreamsApp) -> None:
    await request(app, "PUT", "/v1/stream/%61%2fb", TEXT)
    assert (await request(app, "HEAD", "/v1/stream/a/b")).status == 200
    assert (await request(app, "HEAD", "/v1/%73tream/a%2Fb")).status == 200
    assert (await request(app, "PUT", "/v1/stream/%5f%5fds", TEXT)).status == 404


@pytest.mark.parametrize("source", ["/x/v1/stream/a", "/v1/stream/a"])
async def test_source_of_a_mounted_fork_may_omit_the_mount(
    app: DurableStreamsApp, source: str
) -> None:
    await request(app, "PUT", "/x" + A, TEXT, b"abc", root_path="/x")
    forked = await request(app, "PUT", "/x/b", {"stream-forked-from": source}, root_path="/x")
    assert forked.status == 201
    assert (await request(app, "GET", "/x/b", root_path="/x")).body == b"abc"


async def test_path_of_the_mount_itself_returns_404(app: DurableStreamsApp) -> None:
    assert (await request(app, "GET", "/x", root_path="/x")).status == 404
    assert (await request(app, "GET", "/x/", root_path="/x")).status == 404
