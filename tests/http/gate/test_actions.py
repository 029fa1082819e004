"""`actions_of`: what a request does, as verbs on decoded paths."""

import pytest

from durable_streams_server.errors import BadRequest, NotFound
from durable_streams_server.http.control.routes import ROUTES
from durable_streams_server.http.gate.actions import actions_of
from durable_streams_server.http.request import Request
from durable_streams_server.http.targets import Targets

TARGETS = Targets("/v1/stream")
A = "/v1/stream/a"
CONTROL = "/v1/stream/__ds"
CLOSES = {b"stream-closed": b"True"}


def asking(
    method: str, path: str, headers: dict[bytes, bytes] | None = None, **more: object
) -> Request:
    request = Request(method, path.encode(), b"", headers or {})
    for name, value in more.items():
        setattr(request, name, value)
    return request


@pytest.mark.parametrize(
    ("request_", "actions"),
    [
        (asking("GET", A), (("read", A),)),
        (asking("HEAD", "/v1/%73tream/a"), (("read", A),)),
        (asking("DELETE", A), (("delete", A),)),
        (asking("PUT", A), (("create", A),)),
        (asking("PUT", A, CLOSES), (("create", A),)),
        (asking("PUT", A, {b"stream-forked-from": b"/v1/stream/%62"}), (("fork", A), ("read", "/v1/stream/b"))),
        (asking("POST", A), (("append", A),)),
        (asking("POST", A, {b"stream-closed": b"false"}, declared=1), (("append", A),)),
        (asking("POST", A, CLOSES), (("close", A),)),
        (asking("POST", A, CLOSES, declared=0), (("close", A),)),
        (asking("POST", A, CLOSES, declared=1), (("append", A), ("close", A))),
        (asking("POST", A, CLOSES, body=b"x"), (("append", A), ("close", A))),
        (asking("POST", A, {**CLOSES, b"transfer-encoding": b"chunked"}), (("append", A), ("close", A))),
        (asking("PATCH", A), ()),
        (asking("OPTIONS", A), ()),
        (asking("OPTIONS", "*"), ()),
        (asking("GET", "/mount/a", root_path="/mount"), (("read", "/a"),)),
        (
            asking("PUT", "/mount/a", {b"stream-forked-from": b"/mount/b"}, root_path="/mount"),
            (("fork", "/a"), ("read", "/b")),
        ),
        (asking("GET", f"{CONTROL}/unknown"), (("admin", f"{CONTROL}/unknown"),)),
        (asking("GET", f"{CONTROL}/subscriptions"), (("admin", f"{CONTROL}/subscriptions"),)),
    ],
)  # fmt: skip
def test_each_request_has_its_actions(request_: Request, actions: tuple[object, ...]) -> None:
    assert actions_of(request_, TARGETS) == actions


def test_each_control_route_has_its_verb_or_needs_none() -> None:
    for route in ROUTES:
        path = f"{CONTROL}/{route.template.format(id='s', path='a')}"
        expected = {"public": (), "worker": ()}.get(route.access, ((route.access, path),))
        for method in route.methods:
            assert actions_of(asking(method, path), TARGETS) == expected


@pytest.mark.parametrize("path", ["/v1/stream//a", "/v1/../a", "/v1/stream/__ds"])
def test_path_that_names_no_stream_is_refused_as_by_the_routes(path: str) -> None:
    with pytest.raises((BadRequest, NotFound)):
        actions_of(asking("GET", path), TARGETS)
