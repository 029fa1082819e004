"""The description of the server: its version, capabilities and limits."""

import json
from importlib import metadata
from typing import Any

import pytest

from durable_streams_server import create_app
from durable_streams_server.http.control import info
from durable_streams_server.http.control.listing import MAX_STREAMS_LISTED
from durable_streams_server.http.control.requests import MAX_CONTROL_BODY
from durable_streams_server.http.limits.client_limits import ClientLimits
from tests.http.asgi_driver import request
from tests.http.control_site import CONTROL, PUBLIC, Site
from tests.http.lanes import Caller

INFO = f"{CONTROL}/info"


async def shown(**options: Any) -> Any:
    """Returns the document of an application."""
    return await Site(**options).value("GET", INFO)


@pytest.mark.parametrize("native", [True, False])
async def test_info_has_the_version_and_is_not_cached(native: bool) -> None:
    app = create_app()
    app.begin()
    call = Caller(app, native)
    answer = await call("GET", INFO)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    found = json.loads(answer.body)
    assert found["server"] == "durable-streams-server"
    assert found["version"] == metadata.version("durable-streams-server")
    assert found["stream_root"] == "/v1/stream"
    assert (await call("HEAD", INFO)).status == 200
    assert (await call("POST", INFO)).headers["allow"] == "GET, HEAD, OPTIONS"
    await app.stop()


async def test_info_has_the_limits_in_force() -> None:
    limits = (await shown(max_body=12345, page_size=2048, sse_max_age=7.5, body_timeout=3))[
        "limits"
    ]
    assert limits["body_bytes"] == limits["control_body_bytes"] == 12345
    assert limits["page_bytes"] == 2048
    assert limits["event_stream_seconds"] == 7.5
    assert limits["body_timeout_seconds"] == 3
    assert limits["streams_listed"] == MAX_STREAMS_LISTED
    clients = ClientLimits(
        max_live_readers_per_client=7, max_bytes_per_second=8, max_subscriptions_per_token=9
    )
    limits = (await shown(limits=clients))["limits"]
    assert limits["live_readers_per_client"] == 7
    assert limits["subscriptions_per_token"] == 9
    assert (limits["appends_per_second"], limits["append_bytes_per_second"]) == (None, 8)
    limits = (await shown())["limits"]
    assert limits["control_body_bytes"] == MAX_CONTROL_BODY
    assert limits["path_bytes"] == 500


async def test_info_tells_whether_webhooks_are_possible() -> None:
    assert (await shown())["capabilities"]["subscriptions"] == ["pull-wake"]
    capabilities = (await shown(public_url=PUBLIC))["capabilities"]
    assert capabilities["subscriptions"] == ["pull-wake", "webhook"]


async def test_info_tells_what_only_the_server_knows() -> None:
    site = Site(compression=False)
    capabilities = (await site.value("GET", INFO))["capabilities"]
    assert (capabilities["compression"], capabilities["http2"], capabilities["auth"]) == (
        [],
        None,
        [],
    )
    site.app.facts.http2 = True
    site.app.facts.auth = ("tokens",)
    capabilities = (await site.value("GET", INFO))["capabilities"]
    assert (capabilities["http2"], capabilities["auth"]) == (True, ["tokens"])


async def test_root_of_the_server_is_shown_as_a_slash() -> None:
    app = create_app(stream_root="/")
    answer = await request(app, "GET", "/__ds/info")
    assert json.loads(answer.body)["stream_root"] == "/"


def test_version_of_a_package_that_is_not_installed_is_null(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(_: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", missing)
    info.version.cache_clear()
    assert info.version() is None
    info.version.cache_clear()
