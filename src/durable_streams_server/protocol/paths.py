"""Decides which stream a URL names: once, on the decoded path, for routing, storage and authorisation alike.

Ambiguous paths are refused rather than interpreted: undecodable bytes, control characters, dot segments (which proxies resolve)
and empty segments (which proxies merge). An encoded slash is a slash.

The encoding of paths as file names, at the end of this file, gives the same results as that of the Node server.
"""

import base64
import hashlib
import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from ..errors import BadRequest, NotFound
from .arguments import require
from .limits import MAX_PATH_BYTES
from .names import OPERATIONS_PATHS, RESERVED_SEGMENT

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PLAIN: Final = re.compile(rb"(?:/[A-Za-z0-9_~:@!$&'()*+,;=-][A-Za-z0-9_.~:@!$&'()*+,;=-]*)+")
_MAX_ENCODED: Final = 200
_KEPT_OF_LONG: Final = 180
_HASH_DIGITS: Final = 16


def decode_path(raw: bytes, max_bytes: int = MAX_PATH_BYTES) -> str:
    """Returns the decoded stream path that a request path names.

    Args:
        raw: the percent-encoded path of the request, without the query.
        max_bytes: the maximum number of bytes of the decoded path.

    Raises:
        BadRequest: INVALID_PATH, if the path is ambiguous or too long.
    """
    if _PLAIN.fullmatch(raw) and len(raw) <= max_bytes:
        return raw.decode("ascii")
    if _BAD_ESCAPE.search(raw):
        raise _invalid("the path has a malformed percent escape")
    try:
        path = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise _invalid("the path is not UTF-8") from None
    return check_path(path, max_bytes)


def check_path(path: str, max_bytes: int = MAX_PATH_BYTES) -> str:
    """Returns a path unchanged, after checking that it can name a stream.

    Raises:
        BadRequest: INVALID_PATH.
    """
    check_is_whole(path)
    if path == "/":
        raise _invalid("the path names no stream")
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        raise _invalid("the path is not UTF-8") from None
    if size > max_bytes:
        raise _invalid(f"the path is longer than {max_bytes} bytes")
    if _CONTROL.search(path):
        raise _invalid("the path has a control character")
    segments = path[1:].split("/")
    if "." in segments or ".." in segments:
        raise _invalid("the path has a dot segment")
    if "" in segments[:-1]:
        raise _invalid("the path has an empty segment")
    return path


def check_is_whole(path: str) -> None:
    """Refuses a relative path, such as `chat`.

    Raises:
        BadRequest: INVALID_PATH.
    """
    if not path.startswith("/"):
        raise _invalid("the path must begin with a slash, as in /chat")


def refuse_reserved(path: str, stream_root: str) -> None:
    """Refuses a path that is reserved for the server itself (PROTOCOL 6).

    Raises:
        NotFound: RESERVED_PATH.
    """
    control = f"{stream_root}/{RESERVED_SEGMENT}"
    if path in OPERATIONS_PATHS or path == control or path.startswith(control + "/"):
        raise NotFound("this path is reserved for the server itself", "RESERVED_PATH")


def normalize_root(stream_root: str) -> str:
    """Returns a stream root without trailing slashes. The root `/` becomes the empty string."""
    root = "/" + stream_root.strip("/")
    return "" if root == "/" else check_path(root)


def normalize_mount(root_path: str, raw_path: bytes) -> tuple[str, bytes]:
    """Returns the ASGI root path with single slashes and without a trailing slash, and the request path that matches it.

    Some servers prepend the root path to request paths exactly as configured, so `/api/` makes `/api//v1/stream/a`.

    Args:
        root_path: the decoded root path, with slashes in any place.
        raw_path: the percent-encoded request path, with or without the root path.
    """
    segments = [segment for segment in root_path.split("/") if segment]
    mount = "".join(f"/{segment}" for segment in segments)
    prefix = root_path.encode("utf-8", "surrogatepass")
    if mount == root_path or not raw_path.startswith(prefix):
        return mount, raw_path
    rest = raw_path[len(prefix) :]
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    return mount, encode_url_path(mount).encode("ascii") + rest


def encode_url_path(path: str) -> str:
    """Returns a decoded path percent-encoded for a URL."""
    return quote(path, safe="/:@!$&'()*+,;=~-._")


def encode_stream_path(path: str) -> str:
    """Returns a stream path encoded as one file name, in URL-safe base64 without padding.

    A result of more than 200 characters is replaced by its first 180, `~`, and 16 hexadecimal digits of the path's SHA-256.
    """
    require(str, path=path)
    encoded = base64.urlsafe_b64encode(path.encode("utf-8")).decode("ascii").rstrip("=")
    if len(encoded) <= _MAX_ENCODED:
        return encoded
    digest = hashlib.sha256(path.encode("utf-8")).hexdigest()[:_HASH_DIGITS]
    return f"{encoded[:_KEPT_OF_LONG]}~{digest}"


def decode_stream_path(encoded: str) -> str:
    """Returns the stream path that `encode_stream_path` encoded.

    Of a path that was too long, only the first 135 bytes are returned.

    Raises:
        ValueError: the name is not such an encoding.
    """
    require(str, encoded=encoded)
    head, tilde, digest = encoded.rpartition("~")
    base = head if tilde and re.fullmatch(r"[0-9a-f]{16}", digest) else encoded
    if not re.fullmatch(r"[A-Za-z0-9_-]*", base) or len(base) % 4 == 1:
        raise ValueError("not an encoded stream path")
    decoded = base64.urlsafe_b64decode(base + "=" * (-len(base) % 4))
    return decoded.decode("utf-8", errors="replace")


def _invalid(message: str) -> BadRequest:
    return BadRequest(message, "INVALID_PATH")
