"""`route_of`: the route of a request follows from the handler's mark, or from the method and the query."""

import pytest

from durable_streams_server.http.observing.routes import CONTROL, ROUTES, route_of
from durable_streams_server.http.request import NO_REQUEST, Request


@pytest.mark.parametrize(
    ("method", "query", "name"),
    [
        ("POST", b"", "append"),
        ("POST", b"live=sse", "append"),
        ("PUT", b"", "create"),
        ("DELETE", b"", "delete"),
        ("GET", b"", "read"),
        ("GET", b"offset=-1", "read"),
        ("GET", b"offset=-1&live=long-poll", "long_poll"),
        ("GET", b"offset=-1&live=sse", "sse"),
        ("GET", b"live=other", "read"),
        ("HEAD", b"live=sse", "head"),
        ("OPTIONS", b"", "options"),
        ("PATCH", b"", "other"),
        ("get", b"", "other"),
    ],
)
def test_route_follows_from_method_and_query(method: str, query: bytes, name: str) -> None:
    assert ROUTES[route_of(Request(method, b"/a", query, {}))] == name


def test_mark_of_the_handler_counts_before_the_method() -> None:
    request = Request("POST", b"/v1/stream/__ds/subscriptions", b"", {})
    request.route = CONTROL
    assert ROUTES[route_of(request)] == "control"


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/metrics"])
def test_operations_paths_have_a_route_of_their_own(path: bytes) -> None:
    assert ROUTES[route_of(Request("GET", path, b"", {}))] == "operations"


def test_request_without_a_known_path_has_the_route_other() -> None:
    assert ROUTES[route_of(NO_REQUEST)] == "other"
