"""Validates JSON with msgspec, and compensates for two differences between msgspec and the JSON standard.

msgspec does not check UTF-8 inside strings, and it refuses escapes of unpaired surrogates, which are legal.
"""

import re
from typing import Final

import msgspec

from ...errors import BadRequest
from . import scan
from .refusals import invalid, too_deep

ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_PLACE: Final = re.compile(r"\(byte ([0-9]+)\)")

Values = list[msgspec.Raw] | list[bytes]


def elements(array: bytes, at: int = 0) -> Values:
    """Parses a JSON array, and returns the exact bytes of each element.

    Args:
        array: the array, without leading white space.
        at: the position of the array in the body, for the error message.

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
    """Checks that bytes are one JSON value, which may have white space around it.

    Args:
        text: the bytes.
        at: the position of the bytes in the body, for the error message.

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
    """Checks that bytes are UTF-8, because msgspec does not check the contents of strings.

    Raises:
        BadRequest: INVALID_JSON.
    """
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            raise invalid("the JSON is not UTF-8") from None


def refuse_mark(body: bytes) -> None:
    """Refuses a body that begins with a byte order mark.

    Raises:
        BadRequest: INVALID_JSON.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise invalid("the JSON begins with a byte order mark")


def check_depth(values: Values, limit: int) -> None:
    """Refuses values that are nested deeper than `limit`. Skips short values and values with few brackets.

    Raises:
        BadRequest: INVALID_JSON.
    """
    for value in values:
        if len(value) < 2 * limit:
            continue
        text = bytes(value)
        if text.count(b"[") + text.count(b"{") > limit and scan.depth(text) > limit:
            raise too_deep()


def _malformed(reason: str, at: int) -> BadRequest:
    """Returns the error for malformed JSON, with msgspec's reason and the position counted from the beginning of the body."""
    reason = reason.removeprefix("JSON is malformed: ")
    reason = _PLACE.sub(lambda found: f"(byte {max(0, int(found[1]) + at)})", reason)
    return invalid(f"the body is not valid JSON: {reason}")


def _without_surrogates(text: bytes) -> bytes | None:
    """Returns JSON with each surrogate escape replaced by another escape of the same length, or None if there is no such escape.

    msgspec refuses an unpaired surrogate such as "\\ud83d", which is legal JSON. An escape is invalid outside strings before and
    after the replacement, so the result is valid if and only if the text is valid.
    """
    if not _SURROGATE.search(text):
        return None
    # In a pair of backslashes the second one does not begin an escape.
    return _SURROGATE.sub(rb"\\u00", text.replace(b"\\\\", b"__"))


def _same_places(array: bytes, values: list[msgspec.Raw]) -> list[bytes]:
    """Returns the elements of `array` at the positions of `values`, which were parsed from a copy with other escapes."""
    found = []
    at = 1
    for value in values:
        while array[at] in b" \t\n\r,":
            at += 1
        found.append(array[at : at + len(value)])
        at += len(value)
    return found
