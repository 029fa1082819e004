"""Describes the operations below `__ds`, for each route and method of `control/routes.py`."""

from typing import Final

from ...protocol.limits import MAX_PATH_BYTES
from ..control.listing import DEFAULT_STREAMS_LISTED, MAX_STREAMS_LISTED
from ..control.routes import (
    ACK,
    CALLBACK,
    CLAIM,
    INFO,
    JWKS,
    LINK,
    LINKS,
    OPENAPI,
    RELEASE,
    STREAMS,
    SUBSCRIPTION,
    Route,
)
from .errors import COMMON, Errors
from .parts import TEXT, Document, Operation, json_response, parameter, ref, response

_COMMON: Final[Errors] = {
    **COMMON,
    404: ("RESERVED_PATH",),
    415: ("UNSUPPORTED_CONTENT_ENCODING",),
}
_BODY: Final = ("MISSING_CONTENT_TYPE", "INVALID_CONTENT_TYPE", "INVALID_SUBSCRIPTION")
_UNKNOWN: Final[Errors] = {404: ("SUBSCRIPTION_NOT_FOUND",), 503: ("WRITES_BEHIND",)}
_STORED: Final[Errors] = {503: ("WRITES_BEHIND",), 507: ("STORE_FULL",)}


def _json(name: str) -> dict[str, Document]:
    """Returns the content of a request with a JSON document."""
    return {"application/json": ref(name)}


_ACKNOWLEDGED: Final = {"200": json_response("The cursors are moved.", ref("Acknowledged"))}
_ACK_ERRORS: Final[Errors] = {
    **_STORED,
    400: (*_BODY, "INVALID_OFFSET"),
    409: ("FENCED",),
}

OPERATIONS: Final[dict[tuple[Route, str], Operation]] = {
    (JWKS, "GET"): Operation(
        name="getKeys",
        summary="Returns the public keys that verify webhooks.",
        access="public",
        responses={"200": json_response("The keys.", ref("KeySet"), "application/jwk-set+json")},
        errors=_STORED,
        common=_COMMON,
    ),
    (OPENAPI, "GET"): Operation(
        name="getDescription",
        summary="Returns this document.",
        access="public",
        responses={"200": json_response("The document.", {"type": "object"})},
        common=_COMMON,
    ),
    (INFO, "GET"): Operation(
        name="getInfo",
        summary="Returns the version, the capabilities and the limits of the server.",
        access="admin",
        responses={"200": json_response("The description of the server.", ref("Info"))},
        common=_COMMON,
    ),
    (STREAMS, "GET"): Operation(
        name="listStreams",
        summary="Lists the streams in the order of their paths.",
        access="admin",
        parameters=(
            parameter(
                "query",
                "prefix",
                {"type": "string", "pattern": "^/", "maxLength": MAX_PATH_BYTES},
                "Lists only paths that begin with this text.",
            ),
            parameter(
                "query",
                "after",
                {"type": "string", "pattern": "^/", "maxLength": MAX_PATH_BYTES},
                "Lists only paths after this one: the `next` of the page before.",
            ),
            parameter(
                "query",
                "limit",
                {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_STREAMS_LISTED,
                    "default": DEFAULT_STREAMS_LISTED,
                },
                "Maximum streams in one page.",
            ),
        ),
        responses={"200": json_response("One page of the streams.", ref("Listing"))},
        errors={400: ("INVALID_QUERY", "INVALID_LIMIT"), 503: ("NO_FILE_HANDLES",)},
        common=_COMMON,
    ),
    (SUBSCRIPTION, "PUT"): Operation(
        name="subscribe",
        summary="Creates a subscription, or confirms that the same one exists.",
        access="subscribe",
        body=_json("SubscribeBody"),
        responses={
            "201": json_response("The subscription is created.", ref("Subscription")),
            "200": json_response("The same subscription exists.", ref("Subscription")),
        },
        errors={
            **_STORED,
            400: (
                *_BODY,
                "INVALID_PATTERN",
                "INVALID_WAKE_STREAM",
                "PUBLIC_URL_UNKNOWN",
                "WEBHOOK_URL_REJECTED",
            ),
            409: ("SUBSCRIPTION_EXISTS",),
            429: (
                "TOO_MANY_SUBSCRIPTIONS",
                "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN",
                "TOO_MANY_LINKS",
            ),
        },
        common=_COMMON,
    ),
    (SUBSCRIPTION, "GET"): Operation(
        name="viewSubscription",
        summary="Shows a subscription and its streams.",
        access="subscribe",
        responses={"200": json_response("The subscription.", ref("Subscription"))},
        errors=_UNKNOWN,
        common=_COMMON,
    ),
    (SUBSCRIPTION, "DELETE"): Operation(
        name="unsubscribe",
        summary="Deletes a subscription.",
        access="subscribe",
        responses={"204": response("The subscription is deleted.")},
        errors={**_UNKNOWN, 507: ("STORE_FULL",)},
        common=_COMMON,
    ),
    (LINKS, "POST"): Operation(
        name="link",
        summary="Links further streams to a subscription.",
        access="subscribe",
        body=_json("LinkBody"),
        responses={"204": response("The streams are linked.")},
        errors={
            **_STORED,
            400: _BODY,
            404: ("SUBSCRIPTION_NOT_FOUND",),
            429: ("TOO_MANY_LINKS",),
        },
        common=_COMMON,
    ),
    (LINK, "DELETE"): Operation(
        name="unlink",
        summary="Removes the link between a subscription and a stream.",
        access="subscribe",
        responses={"204": response("The subscription has no explicit link to the stream.")},
        errors=_UNKNOWN,
        common=_COMMON,
    ),
    (CLAIM, "POST"): Operation(
        name="claim",
        summary="Gives the wake in flight to a worker.",
        access="subscribe",
        body=_json("ClaimBody"),
        responses={"200": json_response("The worker has the wake.", ref("Claimed"))},
        errors={
            **_STORED,
            400: (*_BODY, "NOT_PULL_WAKE"),
            404: ("SUBSCRIPTION_NOT_FOUND",),
            409: ("ALREADY_CLAIMED", "NOTHING_TO_CLAIM"),
        },
        common=_COMMON,
    ),
    (CALLBACK, "POST"): Operation(
        name="callback",
        summary="Acknowledges offsets for the receiver of a webhook, or extends its lease.",
        access="worker",
        body=_json("AckBody"),
        responses=_ACKNOWLEDGED,
        errors=_ACK_ERRORS,
        common=_COMMON,
    ),
    (ACK, "POST"): Operation(
        name="acknowledge",
        summary="Acknowledges offsets for a worker, or extends its lease.",
        access="worker",
        body=_json("AckBody"),
        responses=_ACKNOWLEDGED,
        errors=_ACK_ERRORS,
        common=_COMMON,
    ),
    (RELEASE, "POST"): Operation(
        name="release",
        summary="Ends a worker's claim without acknowledging anything.",
        access="worker",
        body=_json("AckBody"),
        responses={"204": response("The wake is free for other workers.")},
        errors={**_STORED, 400: _BODY, 409: ("FENCED",)},
        common=_COMMON,
    ),
}

#: The parameters in the paths of the routes, by name.
IN_PATH: Final = {
    "id": parameter(
        "path",
        "id",
        {"type": "string", "minLength": 1, "maxLength": 256},
        "The id of the subscription: one path segment.",
        example="totals",
    ),
    "path": parameter(
        "path",
        "path",
        {"type": "string", "minLength": 1, "maxLength": MAX_PATH_BYTES},
        "The path of the stream below the stream root. A slash in it may be sent as `/` or as `%2F`.",
        example="chat/7",
    ),
}
#: The schemas of the documents that are not Python structs.
SCHEMAS: Final[dict[str, Document]] = {
    "KeySet": {
        "type": "object",
        "required": ["keys"],
        "properties": {"keys": {"type": "array", "items": {"type": "object"}}},
    },
    "Linked": {
        "type": "object",
        "required": ["path", "link_type", "acked_offset"],
        "properties": {
            "path": TEXT,
            "link_type": {"enum": ["explicit", "glob"]},
            "acked_offset": TEXT,
            "tail_offset": TEXT,
            "has_pending": {"type": "boolean"},
        },
    },
    "Subscription": {
        "type": "object",
        "required": [
            "id",
            "subscription_id",
            "type",
            "pattern",
            "streams",
            "webhook",
            "wake_stream",
            "lease_ttl_ms",
            "created_at",
            "status",
            "description",
        ],
        "properties": {
            "id": TEXT,
            "subscription_id": TEXT,
            "type": {"enum": ["webhook", "pull-wake"]},
            "pattern": {"type": ["string", "null"]},
            "streams": {"type": "array", "items": ref("Linked")},
            "webhook": {"type": ["object", "null"]},
            "wake_stream": {"type": ["string", "null"]},
            "lease_ttl_ms": {"type": "integer"},
            "created_at": TEXT,
            "status": {"enum": ["active", "failed"]},
            "description": {"type": ["string", "null"]},
            "reason": TEXT,
            "damaged_streams": {"type": "array", "items": TEXT},
            "streams_truncated": {"const": True},
        },
    },
    "Claimed": {
        "type": "object",
        "required": ["wake_id", "generation", "streams", "token", "lease_ttl_ms"],
        "properties": {
            "wake_id": TEXT,
            "generation": {"type": "integer"},
            "streams": {"type": "array", "items": ref("Linked")},
            "token": TEXT,
            "lease_ttl_ms": {"type": "integer"},
        },
    },
    "Acknowledged": {
        "type": "object",
        "required": ["ok", "next_wake"],
        "properties": {"ok": {"const": True}, "next_wake": {"type": "boolean"}, "token": TEXT},
    },
}
