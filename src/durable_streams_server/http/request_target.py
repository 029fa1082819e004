"""Splits a request target into path, query and authority (RFC 9112, 3.2). Both adapters use it."""

import httptools
from httptools.parser.url_parser import URL


def split_target(target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Returns the path and the query of a request target, and its authority if the target is an absolute URL.

    The path of a target that is no URL is `*`, which names no stream. Logs show the path, and such a target may contain a signature.
    """
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query, None
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return b"*", b"", None
    return parsed.path or b"/", parsed.query or b"", _authority(parsed)


def _authority(parsed: URL) -> bytes | None:
    """Returns the user, host and port of a URL as one string, or None if the URL has no scheme or no host."""
    host = parsed.host
    if parsed.schema is None or host is None:
        return None
    if b":" in host:
        host = b"[%b]" % host
    if parsed.userinfo is not None:
        host = b"%b@%b" % (parsed.userinfo, host)
    return host if parsed.port is None else b"%b:%d" % (host, parsed.port)
