"""The OpenAPI document describes the routes that exist, and no others."""

import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis

from durable_streams_server.http.browser import _EXPOSED, _REQUEST_HEADERS
from durable_streams_server.http.control.routes import ROUTES
from durable_streams_server.http.openapi import control
from durable_streams_server.http.openapi.document import build
from durable_streams_server.protocol.names import OPERATIONS_PATHS
from tests.http.control_site import CONTROL, PUBLIC, ROOT, Site

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "QUERY")
ERRORS = Path(__file__).parents[3] / "docs" / "errors.md"


@pytest.fixture(scope="module")
def document() -> Any:
    return build(ROOT, "")


def operations(document: Any) -> list[tuple[str, str, Any]]:
    """Returns the path, the method and the description of each operation."""
    return [
        (path, method, described)
        for path, item in document["paths"].items()
        for method, described in item.items()
        if method != "parameters"
    ]


def resolved(document: Any, response: Any) -> Any:
    """Returns a response, also if it is a reference."""
    reference = response.get("$ref")
    if reference is None:
        return response
    return document["components"]["responses"][reference.rpartition("/")[2]]


def codes(document: Any, described: Any) -> set[tuple[int, str]]:
    """Returns the status and code of each error of an operation."""
    found = set()
    for status, response in described["responses"].items():
        for code in re.findall(r"`([A-Z_]+)`", resolved(document, response)["description"]):
            found.add((int(status), code))
    return found


def documented_errors() -> set[tuple[int, str]]:
    """Returns the rows of docs/errors.md."""
    rows = re.findall(r"^\| (\d{3}) \| `([A-Z_]+)` \|", ERRORS.read_text(), re.M)
    return {(int(status), code) for status, code in rows}


def test_document_is_valid_openapi(document: Any) -> None:
    schemathesis.openapi.from_dict(document).validate()


async def test_documented_paths_are_those_of_the_routes(document: Any) -> None:
    site = Site()
    served = set()
    for path in OPERATIONS_PATHS:
        if (await site.ask("GET", path)).status != 404:
            served.add(path)
    expected = {f"{ROOT}/{{path}}", *(f"{CONTROL}/{route.template}" for route in ROUTES), *served}
    assert set(document["paths"]) == expected


async def test_documented_methods_are_those_that_are_not_refused(document: Any) -> None:
    site = Site(public_url=PUBLIC)
    for path, item in document["paths"].items():
        url = path.replace("{path}", "a").replace("{id}", "s")
        for method in METHODS:
            answer = await site.ask(method, url)
            assert (answer.status != 405) == (method.lower() in item), f"{method} {path}"


def test_every_route_is_described_once() -> None:
    listed = {(route, method) for route in ROUTES for method in route.methods}
    assert set(control.OPERATIONS) == listed
    for (route, _), operation in control.OPERATIONS.items():
        assert operation.access == route.access


def test_operations_have_different_names(document: Any) -> None:
    names = [described["operationId"] for _, _, described in operations(document)]
    assert len(names) == len(set(names))


def test_documented_errors_are_those_of_the_error_page(document: Any) -> None:
    found = {
        pair for _, _, described in operations(document) for pair in codes(document, described)
    }
    assert found == documented_errors()


def test_errors_have_the_headers_that_they_always_have(document: Any) -> None:
    for _, method, described in operations(document):
        for status, response in described["responses"].items():
            found = resolved(document, response)
            headers = found.get("headers", {})
            needs_pause = headers.get("Retry-After", {"required": False})["required"]
            assert needs_pause == (status in ("429", "503"))
            assert ("WWW-Authenticate" in headers) == (status == "401")
            assert ("Allow" in headers) == (
                status == "405" or (status, method) == ("204", "options")
            )
            assert int(status) < 400 or ("content" in found) == (method != "head")


def test_every_parameter_of_a_path_is_described(document: Any) -> None:
    for path, item in document["paths"].items():
        names = [each["name"] for each in item.get("parameters", ())]
        assert names == re.findall(r"{(\w+)}", path)


def test_request_headers_of_the_protocol_are_described(document: Any) -> None:
    described = {
        parameter["name"].lower()
        for _, _, operation in operations(document)
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "header"
    }
    known = set(_REQUEST_HEADERS.decode().lower().split(", "))
    general = {"content-type", "authorization", "cache-control", "x-request-id"}
    assert described - known == {"if-match"}
    assert known - described == general


def test_response_headers_of_the_protocol_are_described(document: Any) -> None:
    described = {
        name.lower()
        for _, _, operation in operations(document)
        for response in operation["responses"].values()
        for name in resolved(document, response).get("headers", {})
    }
    exposed = set(_EXPOSED.decode().lower().split(", "))
    general = {"content-type", "content-encoding", "vary"}
    assert exposed - described == general


def test_only_public_operations_need_no_token(document: Any) -> None:
    public = {
        path
        for path, method, described in operations(document)
        if method != "options" and described["security"] == []
    }
    assert public == {
        "/healthz",
        "/readyz",
        f"{CONTROL}/jwks.json",
        f"{CONTROL}/openapi.json",
    }


def test_document_of_another_root_and_mount_has_their_urls() -> None:
    document = build("/my streams", "/api/v 2")
    assert document["servers"] == [{"url": "/api/v%202"}]
    assert "/my%20streams/{path}" in document["paths"]
    assert "/my%20streams/__ds/info" in document["paths"]
    assert "/__ds/info" in build("", "")["paths"]
    assert "/{path}" in build("", "")["paths"]
