"""`client_key`: the key under which the limits of a client are counted."""

from __future__ import annotations

from ..request import Request
from .permit import Permit


def client_key(permit: Permit, request: Request, peer: str | None) -> str | None:
    """Returns the key under which the limits of a client are counted, or None for a client without limits.

    Args:
        permit: The permit of the request, which has the subject of the client's token.
        request: The request, which has the address of the client if a trusted proxy has forwarded it.
        peer: The address of the connection's peer, or None for a Unix socket.
    """
    return permit.client or request.client or peer
