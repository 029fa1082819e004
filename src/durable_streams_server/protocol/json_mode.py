"""JSON mode (PROTOCOL 9.1): bodies are validated and cut one level deep into raw slices; nothing is ever re-serialised.

The wire form of a JSON stream is each value's own bytes followed by one comma. A read drops the last comma and adds the
brackets, so any run of whole values is served as a byte range.
"""

import json
import re
from typing import Final

import msgspec

from ..errors import BadRequest
from .names import MAX_JSON_DEPTH

_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_SPACE: Final = b" \t\n\r"
_LONE_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]")
_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_BLANKS: Final = re.compile(r"[ \t\n\r]*")


def to_wire(body: bytes, *, allow_empty: bool = False) -> bytes:
    """Validates a body and returns its wire form: one level of array flattened, each value followed by a comma.

    Args:
        body: the request body.
        allow_empty: whether an empty array is a body without values (PUT) or an error (POST), PROTOCOL 9.1.3.

    Raises:
        BadRequest: INVALID_JSON, or EMPTY_ARRAY.
    """
    values = split(body)
    if not values:
        if allow_empty:
            return b""
        raise BadRequest("an empty array appends nothing", "EMPTY_ARRAY")
    values.append(b"")  # join then ends with the last value's own comma
    return b",".join(values)


def split(body: bytes) -> list[msgspec.Raw | bytes]:
    """Validates a body and returns its values' own bytes: an array's elements, or the one value.

    Raises:
        BadRequest: INVALID_JSON.
    """
    _check_text(body)
    stripped = body.lstrip(_SPACE)
    values = _slices(stripped)
    # Fewer brackets than the limit cannot nest past it, so most bodies need no more than two counts.
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH:
        _check_depth(values, MAX_JSON_DEPTH - stripped.startswith(b"["))
    return values


def _slices(stripped: bytes) -> list[msgspec.Raw | bytes]:
    try:
        if stripped[:1] == b"[":
            return _ARRAY.decode(stripped)  # type: ignore[return-value]
        return [_VALUE.decode(stripped)]
    except msgspec.DecodeError as error:
        if _LONE_SURROGATE.search(stripped):
            return _split_with_surrogates(stripped)
        raise _invalid(f"the body is not valid JSON: {_reason(error)}") from None
    except RecursionError:
        raise _invalid(f"the JSON is nested deeper than {MAX_JSON_DEPTH} levels") from None


def value_ends(wire: bytes) -> list[int]:
    """Returns where each value of a wire run ends, its comma included, counted from the run's beginning."""
    ends = []
    position = 0
    for value in _slices(b"[" + wire[:-1] + b"]"):  # checked when it came; the bracket adds a level
        position += len(bytes(value)) + 1
        ends.append(position)
    return ends


def _check_text(body: bytes) -> None:
    """Checks what the decoder does not: the UTF-8 inside strings, and the byte order mark."""
    if body.startswith(b"\xef\xbb\xbf"):
        raise _invalid("the JSON begins with a byte order mark")
    if not body.isascii():
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            raise _invalid("the JSON is not UTF-8") from None


def _check_depth(values: list[msgspec.Raw | bytes], limit: int) -> None:
    """Refuses values that are nested deeper than `limit`. One that is short, or has few brackets, cannot be."""
    for value in map(bytes, values):
        if len(value) < 2 * limit or value.count(b"[") + value.count(b"{") <= limit:
            continue
        if _depth(value) > limit:
            raise _invalid(f"the JSON is nested deeper than {MAX_JSON_DEPTH} levels")


def _depth(body: bytes) -> int:
    deepest = depth = 0
    for token in _TOKENS.finditer(body):
        byte = body[token.start()]
        if byte in b"[{":
            depth += 1
            if depth > deepest:
                deepest = depth
        elif byte in b"]}":
            depth -= 1
    return deepest


def _split_with_surrogates(body: bytes) -> list[msgspec.Raw | bytes]:
    """Splits with the standard library, which takes lone surrogate escapes such as "\\ud83d"; they are legal JSON."""
    text = body.decode("utf-8")
    decoder = json.JSONDecoder(
        parse_int=str, parse_constant=_refuse_constant
    )  # any size of integer
    try:
        if text[0] != "[":
            _, end = decoder.raw_decode(text)
            _expect_end(text, end)
            return [text[:end].encode("utf-8")]
        values: list[msgspec.Raw | bytes] = []
        at = _skip(text, 1)
        while text[at : at + 1] != "]" or values:
            _, end = decoder.raw_decode(text, at)
            values.append(text[at:end].encode("utf-8"))
            at = _skip(text, end)
            if text[at : at + 1] == "]":
                break
            if text[at : at + 1] != ",":
                raise ValueError("expected ',' or ']'")
            at = _skip(text, at + 1)
        _expect_end(text, at + 1)
    except (ValueError, RecursionError):
        raise _invalid("the body is not valid JSON") from None
    return values


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def _expect_end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise ValueError("trailing characters")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _reason(error: msgspec.DecodeError) -> str:
    return str(error).removeprefix("JSON is malformed: ")


def _invalid(message: str) -> BadRequest:
    return BadRequest(message, "INVALID_JSON")
