"""Each error class has its HTTP status and its code, and appears in the tree in the docstring of the module."""

import pytest

from durable_streams_server import errors
from durable_streams_server.errors import StreamError

TREE = {
    "BadRequest": (400, "INVALID_REQUEST"),
    "Unauthorized": (401, "INVALID_TOKEN"),
    "ProducerFenced": (403, "PRODUCER_FENCED"),
    "Forbidden": (403, "FORBIDDEN"),
    "NotFound": (404, "STREAM_NOT_FOUND"),
    "MethodNotAllowed": (405, "METHOD_NOT_ALLOWED"),
    "RequestTimeout": (408, "REQUEST_TIMEOUT"),
    "Conflict": (409, "CONFLICT"),
    "StreamClosed": (409, "STREAM_CLOSED"),
    "SequenceGap": (409, "PRODUCER_SEQUENCE_GAP"),
    "OffsetMismatch": (409, "EXPECTED_OFFSET_MISMATCH"),
    "Fenced": (409, "FENCED"),
    "AlreadyClaimed": (409, "ALREADY_CLAIMED"),
    "Gone": (410, "STREAM_GONE"),
    "PreconditionFailed": (412, "PRECONDITION_FAILED"),
    "TooLarge": (413, "BODY_TOO_LARGE"),
    "UnsupportedMedia": (415, "UNSUPPORTED_CONTENT_ENCODING"),
    "UriTooLong": (414, "URI_TOO_LONG"),
    "UnknownHost": (421, "UNKNOWN_HOST"),
    "TooManyRequests": (429, "TOO_MANY_REQUESTS"),
    "HeadersTooLarge": (431, "HEADERS_TOO_LARGE"),
    "StreamError": (500, "INTERNAL_ERROR"),
    "StreamDamaged": (500, "STREAM_DAMAGED"),
    "Unavailable": (503, "UNAVAILABLE"),
    "StoreForked": (503, "STORE_FORKED"),
    "StorageFull": (507, "STORE_FULL"),
}


def test_expected_error_tree_lists_every_error_class() -> None:
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, StreamError)
    }
    assert kinds == set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_error_has_status_and_code(name: str) -> None:
    kind = getattr(errors, name)
    refusal = kind("why", headers=[(b"retry-after", b"1")])
    assert (refusal.status, refusal.code) == TREE[name]
    assert str(refusal) == refusal.message == "why"
    assert refusal.headers == ((b"retry-after", b"1"),)
    assert kind("why", "NARROWER").code == "NARROWER"


def test_unauthorized_asks_for_bearer_token() -> None:
    assert errors.Unauthorized("why").headers == ((b"www-authenticate", b"Bearer"),)


def test_module_docstring_names_every_error_class() -> None:
    drawing = errors.__doc__ or ""
    for name, (status, code) in TREE.items():
        assert name in drawing
        if name not in ("StreamError", "Conflict", "TooManyRequests", "Unavailable"):
            assert code.split("_")[0] in drawing
        if not issubclass(getattr(errors, name), errors.Conflict) and name != "StreamError":
            assert f"{name} {status}" in drawing
