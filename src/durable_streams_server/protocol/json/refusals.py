"""Builds the errors that refuse a JSON body."""

from ...errors import BadRequest, TooLarge
from ..limits import MAX_JSON_DEPTH


def invalid(message: str) -> BadRequest:
    """Returns the error for a body that is not valid JSON."""
    return BadRequest(message, "INVALID_JSON")


def too_deep() -> BadRequest:
    """Returns the error for JSON that is nested deeper than `MAX_JSON_DEPTH`."""
    return invalid(f"the JSON is nested deeper than {MAX_JSON_DEPTH} levels")


def empty_array() -> BadRequest:
    """Returns the error for an append of an empty array (PROTOCOL 9.1.3)."""
    return BadRequest("an empty array appends nothing", "EMPTY_ARRAY")


def too_many(limit: int) -> TooLarge:
    """Returns the error for a body with more than `limit` values."""
    return TooLarge(f"one append may have {limit} messages", "TOO_MANY_MESSAGES")
