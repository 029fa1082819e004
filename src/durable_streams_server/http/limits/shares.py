"""Counts how much of a shared resource each client address holds, such as connections or bytes of request bodies.

An address stands for one client. An IPv6 client can choose among all addresses of its /64 network, so IPv6 addresses are counted by
that network. A client on a Unix socket has no address and no share, because whoever can reach the socket is on this machine.
"""

import asyncio
import socket
from typing import Final

_MAPPED: Final = bytes(10) + b"\xff\xff"  # the prefix of an IPv4 address on an IPv6 socket


class Shares:
    """Counts how much each address holds. An address that holds nothing takes no memory.

    Args:
        share: maximum amount that one address may hold.
    """

    def __init__(self, share: int) -> None:
        self.share = share
        self._held: dict[str, int] = {}

    def __len__(self) -> int:
        """Returns the number of addresses that hold something."""
        return len(self._held)

    def held(self, address: str | None) -> int:
        """Returns the amount that an address holds."""
        return 0 if address is None else self._held.get(address, 0)

    def take(self, address: str | None, amount: int) -> bool:
        """Adds to the amount of an address and returns True, or returns False if that would exceed the share."""
        if address is None or amount == 0:
            return True
        held = self._held.get(address, 0) + amount
        if held > self.share:
            return False
        self._held[address] = held
        return True

    def give_back(self, address: str | None, amount: int) -> None:
        """Subtracts from the amount of an address. Every successful `take` must be followed by one `give_back`."""
        if address is None or amount == 0:
            return
        held = self._held[address] - amount
        if held:
            self._held[address] = held
        else:
            del self._held[address]


def address_of(transport: asyncio.BaseTransport) -> str | None:
    """Returns the address under which a connection is counted, or None for a Unix socket or a transport without a peer name."""
    return address_of_peer(transport.get_extra_info("peername"))


def address_of_peer(peer: object) -> str | None:
    """Returns the address under which a client is counted, or None for a client on a Unix socket.

    Args:
        peer: the peer name of the client's socket.
    """
    return network_of(peer[0]) if isinstance(peer, tuple) else None


def network_of(host: str) -> str:
    """Returns the /64 network of an IPv6 address. Returns any other address unchanged."""
    if ":" not in host:
        return host
    try:
        octets = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    if octets.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, octets[12:])
    return socket.inet_ntop(socket.AF_INET6, octets[:8] + bytes(8)) + "/64"
