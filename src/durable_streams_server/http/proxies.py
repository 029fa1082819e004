"""Decides which peers are trusted proxies, and finds the clients of their requests.

Without a list from the operator, the server trusts peers on this machine to name the scheme, but not the client's address. A proxy that is not
configured to name its clients forwards `X-Forwarded-For` as the client sent it. So the server believes an address only from a listed proxy.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from ..protocol.forwarding import Client, find_client, first_scheme, parse_address
from ..protocol.names import FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO
from ..protocol.networks import Network, network_from
from .limits.shares import address_of_peer, network_of
from .request import Request

#: The name of all peers on Unix sockets in the list of trusted proxies.
UNIX: Final = "unix"
#: The headers in which proxies describe the client.
FORWARDING_HEADERS: Final = frozenset((X_FORWARDED_FOR, X_FORWARDED_PROTO, FORWARDED))
_ON_THIS_MACHINE: Final = ("127.0.0.1", "::1", UNIX)
_KEPT_ADDRESSES: Final = 4096


class TrustedProxies:
    """The proxies whose headers about the client are believed.

    Args:
        named: IP addresses, networks such as `10.0.0.0/8`, and `unix` for all peers on Unix sockets. If it is empty, the peers on this
            machine are trusted with the scheme of a request, and no peer with the address of its client.

    Attributes:
        names_clients: whether trusted proxies are believed when they name the address of a client.

    Raises:
        ValueError: a name is neither an address nor a network.
    """

    def __init__(self, named: Iterable[str] = ()) -> None:
        listed = tuple(named)
        self.names_clients = bool(listed)
        names = listed or _ON_THIS_MACHINE
        self._unix = UNIX in names
        self._networks = tuple(parse_network(name) for name in names if name != UNIX)
        self._is_listed = lru_cache(_KEPT_ADDRESSES)(self._find)
        self._trusts_host = lru_cache(_KEPT_ADDRESSES)(self._find_host)

    def trusts(self, peer: object) -> bool:
        """Returns whether the peer of a connection is a trusted proxy.

        Args:
            peer: the peer name of the socket.
        """
        if not isinstance(peer, tuple):
            return self._unix
        return self._trusts_host(peer[0])

    def counted_address(self, peer: object) -> str | None:
        """Returns the address under which a connection is counted, or None if it has no share.

        A connection of a trusted proxy has no share, because the proxy names the client of each request.
        """
        return None if self.names_clients and self.trusts(peer) else address_of_peer(peer)

    def client_of(self, headers: Mapping[bytes, bytes]) -> Client:
        """Returns what the headers of a request from a trusted proxy say about its client.

        Args:
            headers: values by lower-case name. Repeated headers are joined with commas.
        """
        if self.names_clients:
            return find_client(headers, self._is_listed)
        return Client(None, first_scheme(headers))

    def describe(self, request: Request) -> None:
        """Sets the scheme and the client of a request as its peer, a trusted proxy, has named them."""
        client = self.client_of(request.headers)
        if client.scheme is not None:
            request.scheme = client.scheme
        if client.address is not None:
            request.client = network_of(client.address)

    def _find_host(self, host: str) -> bool:
        """Returns whether a host, as a peer name has it, is the address of a trusted proxy."""
        address = parse_address(host)
        return address is not None and self._is_listed(address)

    def _find(self, address: str) -> bool:
        """Returns whether an address is one of a trusted proxy."""
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._networks)


def parse_network(name: str) -> Network:
    """Returns the network that a name of trusted proxies describes. An address is a network of one address.

    Raises:
        ValueError: the name is neither an address nor a network.
    """
    try:
        return network_from(name)
    except ValueError as error:
        if "host bits" in str(error):
            network = ipaddress.ip_network(name, strict=False)
            raise ValueError(f"{name!r} is not a network: write {str(network)!r}") from None
        raise ValueError(
            f"{name!r} is neither an IP address nor a network such as '10.0.0.0/8', nor '{UNIX}'"
        ) from None
