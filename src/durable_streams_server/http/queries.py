"""Parses the query of a GET into a `Read` command, and caches short queries, because many readers send the same one."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qs

from ..errors import BadRequest
from ..protocol import commands
from ..protocol.names import LAST_EVENT_ID
from .request import Request

_MAX_PARAMETERS: Final = 64  # maximum of one query; the protocol defines three
_CACHED_QUERIES: Final = 256
_SIGNATURE: Final = b"signature="
#: How the parameters of a signed URL begin (`access/signed_urls.py`).
_SIGNED: Final = (b"token_id=", b"expires=", _SIGNATURE)
#: Maximum bytes of a query that is cached. The protocol's parameters need no more.
_SHORT_QUERY: Final = 256


def parse_read(path: str, request: Request) -> commands.Read:
    """Returns the `Read` command for a GET of `path`.

    Raises:
        BadRequest: The query or one of its parameters is malformed.
    """
    query = request.query
    if _SIGNATURE in query:
        query = _without_signature(query)
    if len(query) > _SHORT_QUERY or LAST_EVENT_ID in request.headers:
        return commands.parse_read(path, parameters(query), request.headers)
    read = _parse_query(query)
    return commands.Read(path, read.offset, read.live, read.cursor)


def _without_signature(query: bytes) -> bytes:
    """Returns a query without the parameters of a signed URL, so that no signature is kept in the cache."""
    return b"&".join(part for part in query.split(b"&") if not part.startswith(_SIGNED))


@lru_cache(_CACHED_QUERIES)
def _parse_query(query: bytes) -> commands.Read:
    """Returns the `Read` command for a query, with an empty path. Only for requests without `Last-Event-ID`."""
    return commands.parse_read("", parameters(query), {})


def parameters(query: bytes) -> Mapping[str, list[str]]:
    """Returns the values of each parameter in a query.

    Raises:
        BadRequest: INVALID_QUERY.
    """
    if not query:
        return {}
    try:
        return parse_qs(
            query.decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=_MAX_PARAMETERS,
            errors="strict",
        )
    except ValueError:
        raise BadRequest("the query is malformed", "INVALID_QUERY") from None
