"""The route of the OpenAPI document, on both lanes and below a mount."""

import json

import pytest

from durable_streams_server import create_app
from durable_streams_server.http.openapi.document import build
from tests.http.asgi_driver import request
from tests.http.control_site import CONTROL
from tests.http.lanes import Caller

DOCUMENT = f"{CONTROL}/openapi.json"


@pytest.mark.parametrize("native", [True, False])
async def test_document_is_published(native: bool) -> None:
    app = create_app()
    app.begin()
    call = Caller(app, native)
    for _ in range(2):  # the second response is the kept document
        answer = await call("GET", DOCUMENT)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert json.loads(answer.body) == build("/v1/stream", "")
    assert (await call("HEAD", DOCUMENT)).body == b""
    await app.stop()


async def test_document_of_a_mounted_application_has_the_mount() -> None:
    app = create_app(stream_root="/s")
    for mount in ("/a", "/b", "/c", "/d", "/e", "/e"):
        answer = await request(app, "GET", f"{mount}/s/__ds/openapi.json", root_path=mount)
        found = json.loads(answer.body)
        assert found["servers"] == [{"url": mount}]
        assert "/s/{path}" in found["paths"]
    await app.stop()
