"""`Permit`: what the gate found out about a request that it admits."""

from __future__ import annotations

from typing import Final

import msgspec

from ...protocol.permissions import NO_LIMITS, TokenLimits


class Permit(msgspec.Struct, frozen=True):
    """What the gate found out about an admitted request. The routes need it to answer the request.

    Attributes:
        client: The subject of the client's token, under which its limits are counted, or None for a client without a token.
        limits: The limits of the client's token, in place of the server's.
        until: When a live read of this request must end, because the token expires: microseconds since 1970, or None.
        is_private: Whether only the client may store the response, because the request needed a token.
    """

    client: str | None = None
    until: int | None = None
    is_private: bool = False
    limits: TokenLimits = NO_LIMITS


#: The permit of a request to a server without access control.
OPEN: Final = Permit()
