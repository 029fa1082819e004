"""How much of something that all clients share each address holds: connections, or bytes of request bodies.

An address stands for one client. An IPv6 client has a whole /64 network to choose addresses from, so IPv6 addresses count by
that network. A client on a Unix socket has no address and no share: whoever reaches the socket is on this machine.

    shares.take(address, amount)        before something is held; False when the address would pass its share
    shares.give_back(address, amount)   once it is let go
"""

import asyncio
import socket
from typing import Final

_MAPPED: Final = bytes(10) + b"\xff\xff"  # how an IPv4 address begins in a socket of IPv6


class Shares:
    """Counts what each address holds. An address that holds nothing has no entry, so memory follows what is held.

    Args:
        share: the most that one address may hold.
    """

    def __init__(self, share: int) -> None:
        self.share = share
        self._held: dict[str, int] = {}

    def __len__(self) -> int:
        """Returns how many addresses hold something."""
        return len(self._held)

    def held(self, address: str | None) -> int:
        """Returns how much an address holds."""
        return 0 if address is None else self._held.get(address, 0)

    def take(self, address: str | None, amount: int) -> bool:
        """Counts what an address is about to hold; returns whether that is within its share. If not, nothing is counted."""
        if address is None or amount == 0:
            return True
        held = self._held.get(address, 0) + amount
        if held > self.share:
            return False
        self._held[address] = held
        return True

    def give_back(self, address: str | None, amount: int) -> None:
        """Counts what an address no longer holds. Whoever took gives back once, however the use ended."""
        if address is None or amount == 0:
            return
        held = self._held[address] - amount
        if held:
            self._held[address] = held
        else:
            del self._held[address]


def address_of(transport: asyncio.BaseTransport) -> str | None:
    """Returns the address that a connection's client counts under; None for a Unix socket, or where the transport names no peer."""
    return address_of_peer(transport.get_extra_info("peername"))


def address_of_peer(peer: object) -> str | None:
    """Returns the address that a client counts under, by what a socket says of its peer."""
    return network_of(peer[0]) if isinstance(peer, tuple) else None


def network_of(host: str) -> str:
    """Returns the address that a client's IP address counts under: itself, or its /64 network for IPv6."""
    if ":" not in host:
        return host
    try:
        octets = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    if octets.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, octets[12:])
    return socket.inet_ntop(socket.AF_INET6, octets[:8] + bytes(8)) + "/64"
