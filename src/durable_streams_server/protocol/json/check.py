"""Whether bytes are JSON: msgspec decides. What it does not check, or refuses though it is legal, is put right here."""

import re
from typing import Final

import msgspec

from ...errors import BadRequest, TooLarge
from ..limits import MAX_JSON_DEPTH
from . import scan as json_scan

ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_PLACE: Final = re.compile(r"\(byte ([0-9]+)\)")

Values = list[msgspec.Raw] | list[bytes]


def elements(array: bytes, at: int = 0) -> Values:
    """Returns the elements' own bytes of a JSON array that has no white space before it.

    Args:
        array: the array.
        at: where it begins in the body, for the message.

    Raises:
        BadRequest: INVALID_JSON.
    """
    try:
        return ARRAY.decode(array)
    except msgspec.DecodeError as error:
        reason = str(error)
    except RecursionError:
        raise too_deep() from None
    plain = _without_surrogates(array)
    if plain is None:
        raise _malformed(reason, at)
    try:
        return _same_places(array, ARRAY.decode(plain))
    except msgspec.DecodeError as error:
        raise _malformed(str(error), at) from None
    except RecursionError:
        raise too_deep() from None


def check_value(text: bytes, at: int = 0) -> None:
    """Checks one JSON value, with white space around it.

    Raises:
        BadRequest: INVALID_JSON.
    """
    try:
        try:
            VALUE.decode(text)
        except msgspec.DecodeError as error:
            plain = _without_surrogates(text)
            if plain is None:
                raise _malformed(str(error), at) from None
            try:
                VALUE.decode(plain)
            except msgspec.DecodeError as second:
                raise _malformed(str(second), at) from None
    except RecursionError:
        raise too_deep() from None


def check_text(text: bytes) -> None:
    """Checks the UTF-8 inside strings, which the decoder does not.

    Raises:
        BadRequest: INVALID_JSON.
    """
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            raise invalid("the JSON is not UTF-8") from None


def refuse_mark(body: bytes) -> None:
    """Refuses a byte order mark."""
    if body.startswith(b"\xef\xbb\xbf"):
        raise invalid("the JSON begins with a byte order mark")


def check_depth(values: Values, limit: int) -> None:
    """Refuses values that are nested deeper than `limit`. One that is short, or has few brackets, cannot be."""
    for value in values:
        if len(value) < 2 * limit:
            continue
        text = bytes(value)
        if text.count(b"[") + text.count(b"{") > limit and json_scan.depth(text) > limit:
            raise too_deep()


def invalid(message: str) -> BadRequest:
    """Returns the refusal of a body that is not JSON."""
    return BadRequest(message, "INVALID_JSON")


def too_deep() -> BadRequest:
    """Returns the refusal of values that are nested too deep."""
    return invalid(f"the JSON is nested deeper than {MAX_JSON_DEPTH} levels")


def empty_array() -> BadRequest:
    """Returns the refusal of an append without values."""
    return BadRequest("an empty array appends nothing", "EMPTY_ARRAY")


def too_many(limit: int) -> TooLarge:
    """Returns the refusal of a body with more values than one append may have."""
    return TooLarge(f"one append may have {limit} messages", "TOO_MANY_MESSAGES")


def _malformed(reason: str, at: int) -> BadRequest:
    reason = reason.removeprefix("JSON is malformed: ")
    reason = _PLACE.sub(lambda found: f"(byte {max(0, int(found[1]) + at)})", reason)
    return invalid(f"the body is not valid JSON: {reason}")


def _without_surrogates(text: bytes) -> bytes | None:
    """Returns JSON in which every surrogate escape is another escape of the same length; None if it has no such escape.

    The decoder refuses an unpaired surrogate such as "\\ud83d", which is legal JSON. What is replaced is invalid outside
    strings both before and after, so the result is valid exactly if the text is.
    """
    if not _SURROGATE.search(text):
        return None
    # A pair of backslashes is one character, so the second does not begin an escape.
    return _SURROGATE.sub(rb"\\u00", text.replace(b"\\\\", b"__"))


def _same_places(array: bytes, values: list[msgspec.Raw]) -> list[bytes]:
    """Returns the bytes of `array` at the places that `values` have in a copy of the same length."""
    found = []
    at = 1
    for value in values:
        while array[at] in b" \t\n\r,":
            at += 1
        found.append(array[at : at + len(value)])
        at += len(value)
    return found
