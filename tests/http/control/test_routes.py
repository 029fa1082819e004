"""The table of the control routes."""

import pytest

from durable_streams_server.http.control.control import Control
from durable_streams_server.http.control.routes import (
    ACK,
    CLAIM,
    JWKS,
    LINK,
    LINKS,
    ROUTES,
    SUBSCRIPTION,
    Found,
    find,
)
from tests.http.control_site import Site


@pytest.mark.parametrize(
    ("below", "found"),
    [
        ("jwks.json", Found(JWKS, ())),
        ("subscriptions/s", Found(SUBSCRIPTION, ("s",))),
        ("subscriptions/s/streams", Found(LINKS, ("s",))),
        ("subscriptions/s/claim", Found(CLAIM, ("s",))),
        ("subscriptions/s/streams/a/b", Found(LINK, ("s", "a/b"))),
        ("subscriptions/streams/ack", Found(ACK, ("streams",))),
    ],
)
def test_find_returns_the_route_and_its_arguments(below: str, found: Found) -> None:
    assert find(below) == found


@pytest.mark.parametrize(
    "below", ["", "jwks", "jwks.json/", "subscriptions", "subscriptions/", "subscriptions/s/x"]
)
def test_find_returns_none_for_an_unknown_path(below: str) -> None:
    assert find(below) is None


def test_find_reaches_every_route() -> None:
    for route in ROUTES:
        below = route.template.replace("{id}", "s").replace("{path}", "a/b")
        found = find(below)
        assert found is not None
        assert found.route is route
        assert len(found.arguments) == route.template.count("{")


async def test_every_route_and_method_has_an_action_and_nothing_else_has() -> None:
    control: Control = Site().app.handler._own.control
    listed = {(route, method) for route in ROUTES for method in route.methods}
    assert set(control.actions) == listed


def test_only_the_routes_of_workers_and_public_documents_need_no_verb() -> None:
    free = {
        route.template: route.access for route in ROUTES if route.access in ("public", "worker")
    }
    assert free == {
        "jwks.json": "public",
        "openapi.json": "public",
        "subscriptions/{id}/callback": "worker",
        "subscriptions/{id}/ack": "worker",
        "subscriptions/{id}/release": "worker",
    }


def test_allowed_lists_head_beside_get_and_options_always() -> None:
    assert SUBSCRIPTION.allowed == "PUT, GET, DELETE, HEAD, OPTIONS"
    assert CLAIM.allowed == "POST, OPTIONS"
