"""Decides which peers are proxies whose headers about the client are trusted: only peers on this machine."""

import asyncio
from typing import Final

_TRUSTED: Final = ("127.0.0.1", "::1")


def is_trusted(transport: asyncio.BaseTransport) -> bool:
    """Returns whether a connection comes from this machine, over loopback or over a Unix socket, which has no peer address."""
    peer = transport.get_extra_info("peername")
    return not peer or peer[0] in _TRUSTED
