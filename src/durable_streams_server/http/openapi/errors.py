"""The error responses of operations, by status and code. `docs/errors.md` says when each code is sent."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

#: Error codes by status.
Errors = Mapping[int, tuple[str, ...]]

#: Errors that a request to any path can get, because they arise before it reaches a route.
COMMON: Final[Errors] = MappingProxyType(
    {
        400: ("INVALID_HTTP", "INVALID_HOST", "INVALID_PATH", "REPEATED_HEADER"),
        401: ("TOKEN_REQUIRED", "INVALID_TOKEN", "TOKEN_EXPIRED"),
        403: ("FORBIDDEN", "FOREIGN_ORIGIN"),
        405: ("METHOD_NOT_ALLOWED", "READ_ONLY"),
        408: ("REQUEST_TIMEOUT",),
        413: ("BODY_TOO_LARGE",),
        414: ("URI_TOO_LONG",),
        421: ("UNKNOWN_HOST",),
        431: ("HEADERS_TOO_LARGE",),
        500: ("INTERNAL_ERROR",),
        503: (
            "BODIES_IN_FLIGHT",
            "BODIES_FROM_ADDRESS",
            "TOO_MANY_CONNECTIONS",
            "TOO_MANY_CONNECTIONS_FROM_ADDRESS",
            "SERVER_STOPPING",
            "STORE_FORKED",
            "KEYS_UNAVAILABLE",
        ),
    }
)

_SUMMARIES: Final = {
    400: "The request is malformed.",
    401: "The token is missing, invalid or expired.",
    403: "The client may not do this.",
    404: "There is nothing at the path.",
    405: "The path does not have the method.",
    408: "The rest of the request did not come in time.",
    409: "The present state does not allow the request.",
    410: "The stream or the offset no longer exists.",
    412: "The condition of the request is false.",
    413: "The body is too large.",
    414: "The URL is too long.",
    415: "The body has a content coding.",
    421: "The request names a host that is not this server's.",
    429: "A limit is reached.",
    431: "The headers are too large.",
    500: "The server has a bug, or data on disk is damaged.",
    503: "The server is at a limit, or stopping.",
    507: "The store or its disk is full.",
}


def _header(text: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"description": text, "schema": schema, "required": required}


_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_STATE: Final = {
    "Stream-Next-Offset": _header("The tail of the stream.", _TEXT),
    "Stream-Closed": _header("Sent if the stream is closed.", {"type": "string", "const": "true"}),
}
_RETRY_AFTER: Final = "Seconds after which the client may retry."
#: The header that every error has.
_REQUEST_ID: Final = {
    "X-Request-Id": _header(
        "The id of the request in the server's log: that of the request's own X-Request-Id, or a new one.",
        _TEXT,
        required=True,
    )
}
#: The headers that every error with a status has.
_BY_STATUS: Final = {
    401: {"WWW-Authenticate": _header("How to authenticate.", _TEXT, required=True)},
    405: {"Allow": _header("The methods of the path.", _TEXT, required=True)},
    429: {"Retry-After": _header(_RETRY_AFTER, _COUNT, required=True)},
    503: {"Retry-After": _header(_RETRY_AFTER, _COUNT, required=True)},
}
#: The headers that errors with a code can have.
_BY_CODE: Final = {
    "EXPECTED_OFFSET_MISMATCH": _STATE,
    "PRECONDITION_FAILED": {**_STATE, "ETag": _header("Identifies the present state.", _TEXT)},
    "PRODUCER_FENCED": {"Producer-Epoch": _header("The newer epoch.", _COUNT)},
    "PRODUCER_SEQUENCE_GAP": {
        "Producer-Expected-Seq": _header("The next sequence number.", _COUNT),
        "Producer-Received-Seq": _header("The sequence number of the request.", _COUNT),
    },
    "STORE_FULL": {"Retry-After": _header(_RETRY_AFTER, _COUNT)},
    "STREAM_CLOSED": _STATE,
    "UNSUPPORTED_CONTENT_ENCODING": {"Accept-Encoding": _header("The codings of bodies.", _TEXT)},
}


def error_responses(
    common: Errors, own: Errors, *, has_content: bool = True
) -> dict[str, dict[str, Any]]:
    """Returns the error responses of an operation by status. A response with only the common codes is a reference to `shared_responses`.

    Args:
        common: the codes that operations of its kind have in common.
        own: further codes.
        has_content: whether the responses have a body, which responses to HEAD have not.
    """
    found = {}
    for status in sorted({*common, *own}):
        codes = (*common.get(status, ()), *own.get(status, ()))
        if codes == COMMON.get(status):
            found[str(status)] = {"$ref": f"#/components/responses/{_name(status, has_content)}"}
        else:
            found[str(status)] = _response(status, codes, has_content)
    return found


def shared_responses() -> dict[str, dict[str, Any]]:
    """Returns the error responses that most operations have, by name."""
    return {
        _name(status, has_content): _response(status, codes, has_content)
        for status, codes in COMMON.items()
        for has_content in (True, False)
    }


def _name(status: int, has_content: bool) -> str:
    """Returns the name of a shared response."""
    return f"Error{status}" if has_content else f"Error{status}WithoutBody"


def _response(status: int, codes: tuple[str, ...], has_content: bool) -> dict[str, Any]:
    """Returns the response for an error with one of these codes."""
    listed = ", ".join(f"`{code}`" for code in codes)
    headers = _REQUEST_ID | _BY_STATUS.get(status, {})
    for each in codes:
        headers = headers | _BY_CODE.get(each, {})
    response: dict[str, Any] = {
        "description": f"{_SUMMARIES[status]} {listed}.",
        "headers": headers,
    }
    if has_content:
        code = {"properties": {"code": {"enum": list(codes)}}}
        schema = {
            "allOf": [{"$ref": "#/components/schemas/Error"}, {"properties": {"error": code}}]
        }
        response["content"] = {"application/json": {"schema": schema}}
    return response


#: The schema of the body of every error.
ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "description": "Some codes have further fields.",
            "properties": {
                "code": {"type": "string", "description": "A stable name, for programs."},
                "message": {"type": "string", "description": "A sentence, for people."},
            },
        }
    },
}
