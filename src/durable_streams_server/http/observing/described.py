"""Describes a request for logs and traces, without its secrets.

A query may contain a signature or a token, so only the parameters of the protocol are shown, and only if their values look valid. Headers are
never shown, except for the name of the client's program.
"""

import re
from typing import Any, Final

from ...protocol.names import QUERY_CURSOR, QUERY_LIVE, QUERY_OFFSET
from ..request import Request
from ..request_ids import given_id

#: The parameters of a query that are shown.
SHOWN: Final = (QUERY_OFFSET, QUERY_LIVE, QUERY_CURSOR)
_SHOWN_OCTETS: Final = frozenset(name.encode() for name in SHOWN)
#: Matches the values of these parameters that may be valid.
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_.-]{0,200}")
#: Maximum characters that are shown of a path. Longer ones name no stream.
_LONGEST_PATH: Final = 2048
#: Maximum characters that are shown of a method, or of the name of a client's program.
_LONGEST: Final = 200
#: What stands for the characters that are not shown.
_CUT: Final = "..."


def method_of(request: Request) -> str:
    """Returns the method of a request."""
    return _cut(request.method, _LONGEST)


def path_of(request: Request) -> str:
    """Returns the path of a request, percent-encoded as it was received."""
    return _cut(request.raw_path.decode("latin-1"), _LONGEST_PATH)


def query_of(request: Request) -> str:
    """Returns the parameters of a query that are no secrets, in their order."""
    if not request.query:
        return ""
    parts = []
    for part in request.query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name in _SHOWN_OCTETS:
            parts.append(f"{name.decode()}={value.decode() if _PLAIN.fullmatch(value) else _CUT}")
    return "&".join(parts[: len(SHOWN)])


def agent_of(request: Request) -> str:
    """Returns the name of the client's program, or an empty text."""
    return _cut(request.headers.get(b"user-agent", b"").decode("latin-1"), _LONGEST)


def client_of(request: Request, peer: str | None) -> str | None:
    """Returns the client's address, which a trusted proxy may have named, or None if it is unknown."""
    return request.client or peer


def describe(request: Request, peer: str | None) -> dict[str, Any]:
    """Returns the fields of a log record about a request. Those without a value are left out.

    Args:
        request: The request, whose body may be missing.
        peer: The address of the connection's peer, or None.
    """
    fields: dict[str, Any] = {
        "method": method_of(request),
        "path": path_of(request),
        "query": query_of(request),
        "client": client_of(request, peer),
        "request_id": given_id(request).decode("ascii"),
        "subject": request.subject,
        "user_agent": agent_of(request),
    }
    return {name: value for name, value in fields.items() if value}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + _CUT
