"""Assembles the OpenAPI document from the descriptions of all operations."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from ...protocol.limits import MAX_PATH_BYTES
from ...protocol.names import RESERVED_SEGMENT
from ...protocol.paths import encode_url_path
from ...protocol.subscriptions.commands import AckBody, ClaimBody, LinkBody, SubscribeBody
from ..control.info import Info, version
from ..control.listing import Listing
from ..control.routes import ROUTES, Route
from . import control, operations
from .errors import ERROR_SCHEMA, shared_responses
from .parts import Document, Operation, head_of, parameter, preflight
from .streams import STREAM

_STRUCTS: Final = (SubscribeBody, LinkBody, ClaimBody, AckBody, Info, Listing)
_DESCRIPTION: Final = (
    "Append-only streams at plain URLs. A stream may have any path that the server does not reserve; "
    "this document describes those below the stream root. `x-access` names the verb that a token needs."
)
_STREAM_PATH: Final = parameter(
    "path",
    "path",
    {"type": "string", "minLength": 1, "maxLength": MAX_PATH_BYTES},
    "The path of the stream below the stream root: one or more segments of UTF-8, without dot segments, empty segments and "
    "control characters. A slash in it may be sent as `/` or as `%2F`.",
    example="chat/7",
)
_SECURITY_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The client's token, on a server with access control.",
    },
    "worker": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of a claim or of a webhook.",
    },
}


def build(root: str, mount: str) -> Document:
    """Returns the document.

    Args:
        root: the stream root, without a slash at its end.
        mount: the path below which the application is mounted, or an empty string.
    """
    url = encode_url_path(root)
    schemas = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")[
        1
    ]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Durable Streams",
            "version": version() or "0",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": encode_url_path(mount) or "/"}],
        "tags": [{"name": name} for name in ("streams", "control", "operations")],
        "paths": {
            f"{url}/{{path}}": _path_item("streams", STREAM, [_STREAM_PATH]),
            **{f"{url}/{RESERVED_SEGMENT}/{route.template}": _control(route) for route in ROUTES},
            **{path: _operations(path) for path in operations.OPERATIONS},
        },
        "components": {
            "schemas": {
                **schemas,
                **control.SCHEMAS,
                **operations.SCHEMAS,
                "Error": ERROR_SCHEMA,
            },
            "responses": shared_responses(),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _path_item(
    tag: str, described: Mapping[str, Operation], parameters: list[Document]
) -> Document:
    """Returns the operations of one path by method."""
    item: Document = {"parameters": parameters} if parameters else {}
    for method, operation in described.items():
        item[method.lower()] = operation.document(tag, has_content=method != "HEAD")
    return item


def _with_head_and_options(described: dict[str, Operation]) -> dict[str, Operation]:
    """Adds the HEAD operation that goes with GET, and the OPTIONS operation that every path has."""
    found = dict(described)
    first = next(iter(described.values()))
    if "GET" in described:
        found["HEAD"] = head_of(described["GET"], f"{described['GET'].name}Head")
    found["OPTIONS"] = preflight(f"{first.name}Preflight")
    return found


def _control(route: Route) -> Document:
    """Returns the operations of one control route."""
    described = {method: control.OPERATIONS[route, method] for method in route.methods}
    names = re.findall(r"{(\w+)}", route.template)
    return _path_item(
        "control", _with_head_and_options(described), [control.IN_PATH[name] for name in names]
    )


def _operations(path: str) -> Document:
    """Returns the operations of a path outside the stream root."""
    return _path_item(
        "operations", _with_head_and_options({"GET": operations.OPERATIONS[path]}), []
    )
