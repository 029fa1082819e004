"""The bodies of control requests: which are refused, and before or after they are received."""

import json

import pytest

from durable_streams_server.http.control.requests import MAX_CONTROL_BODY
from tests.http.asgi_driver import request
from tests.http.control_site import JSON, PUBLIC, PULL, S, Site


@pytest.fixture
async def site() -> Site:
    return Site(public_url=PUBLIC)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("PUT", S),
        ("POST", f"{S}/streams"),
        ("POST", f"{S}/claim"),
        ("POST", f"{S}/ack"),
        ("POST", f"{S}/callback"),
        ("POST", f"{S}/release"),
    ],
)
async def test_control_request_needs_a_json_body_and_content_type(
    site: Site, method: str, url: str
) -> None:
    claim = await site.claim()
    bearer = {"authorization": f"Bearer {claim['token']}"}
    for declared, code in [
        (None, "MISSING_CONTENT_TYPE"),
        ("", "MISSING_CONTENT_TYPE"),
        ("text/plain", "INVALID_CONTENT_TYPE"),
        ("application/x-www-form-urlencoded", "INVALID_CONTENT_TYPE"),
        ("multipart/form-data; boundary=x", "INVALID_CONTENT_TYPE"),
        ("application/jsonx", "INVALID_CONTENT_TYPE"),
        ("json", "INVALID_CONTENT_TYPE"),
    ]:
        headers = {**bearer, **({} if declared is None else {"content-type": declared})}
        answer = await request(site.app, method, url, headers, json.dumps(PULL).encode())
        assert answer.status == 400
        assert answer.error["code"] == code or declared in ("", "json")
    for raw in (b"", b"{", b"[]", b"\xff"):
        answer = await request(site.app, method, url, {**JSON, **bearer}, raw)
        assert (answer.status, answer.error["code"]) == (400, "INVALID_SUBSCRIPTION")
    charset = {"content-type": "Application/JSON; charset=utf-8", **bearer}
    assert (await request(site.app, method, url, charset, b"{")).error["code"] == (
        "INVALID_SUBSCRIPTION"
    )


async def test_body_over_the_limit_returns_413(site: Site) -> None:
    body = {**PULL, "padding": "x" * MAX_CONTROL_BODY}
    answer = await site.ask("PUT", S, body)
    assert (answer.status, answer.error["code"]) == (413, "BODY_TOO_LARGE")
    assert (await site.ask("GET", S)).status == 404
