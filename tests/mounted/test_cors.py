"""The CORS policy of a host application also applies to the streams that it mounts."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from durable_streams_server import create_app

FRIEND, STRANGER = "https://app.example", "https://evil.example"
A = "/streams/a"
TEXT = {"content-type": "text/plain"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    streams = create_app(long_poll_timeout=0.01, sse_max_age=0.01)
    host = FastAPI()
    host.mount("/streams", streams)
    host.add_middleware(
        CORSMiddleware,
        allow_origins=[FRIEND],
        allow_credentials=True,
        allow_methods=["GET", "POST"],
        allow_headers=["x-requested-with"],
        expose_headers=["Stream-Next-Offset"],
    )
    transport = httpx.ASGITransport(app=host)
    async with httpx.AsyncClient(transport=transport, base_url="http://h") as client:
        await client.put(A, headers=TEXT, content="hello")
        yield client
    await streams.stop()


@pytest.mark.parametrize("query", ["", "?offset=now", "?offset=-1&live=sse", "?offset=x"])
async def test_only_origins_of_the_host_policy_may_read(
    http: httpx.AsyncClient, query: str
) -> None:
    friend = await http.get(A + query, headers={"origin": FRIEND})
    assert friend.headers.get_list("access-control-allow-origin") == [FRIEND]
    assert friend.headers.get_list("access-control-allow-credentials") == ["true"]
    assert friend.headers["access-control-expose-headers"] == "Stream-Next-Offset"
    for answer in (friend, await http.get(A + query, headers={"origin": STRANGER})):
        assert len(answer.headers.get_list("vary")) <= 1
        assert "*" not in answer.headers.get("access-control-allow-origin", "")
    stranger = await http.get(A + query, headers={"origin": STRANGER})
    assert "access-control-allow-origin" not in stranger.headers


async def test_host_answers_preflights(http: httpx.AsyncClient) -> None:
    asked = {
        "origin": FRIEND,
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-requested-with",
    }
    friend = await http.options(A, headers=asked)
    assert (friend.status_code, friend.headers["access-control-allow-origin"]) == (200, FRIEND)
    assert friend.headers["access-control-allow-methods"] == "GET, POST"
    refused = await http.options(A, headers={**asked, "origin": STRANGER})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers
    refused = await http.options(A, headers={**asked, "access-control-request-headers": "x-other"})
    assert refused.status_code == 400


async def test_options_without_an_origin_lists_the_methods(http: httpx.AsyncClient) -> None:
    answer = await http.options(A)
    assert answer.status_code == 204
    assert "DELETE" in answer.headers["allow"]
    assert not [name for name in answer.headers if name.startswith("access-control")]
