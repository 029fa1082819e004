"""`Permit`: what the gate found out about a request that it admits."""

from __future__ import annotations

from typing import Final

import msgspec


class Permit(msgspec.Struct, frozen=True):
    """What the gate found out about an admitted request. The routes need it to answer the request.

    Attributes:
        client: The key under which the client's limits are counted: the subject of its token, or its address. None for a client on a
            Unix socket.
        until: When a live read of this request must end, because the token expires: microseconds since 1970, or None.
        is_private: Whether only the client may store the response, because the request needed a token.
    """

    client: str | None = None
    until: int | None = None
    is_private: bool = False


#: The permit of a request to a server without access control.
OPEN: Final = Permit()
