"""`network_from`: reads an IP network that an operator has written.

Peers on a socket of both families have IPv4 addresses in the form `::ffff:10.0.0.1`, which the server compares as IPv4. So it must read
the networks of operators in the same way.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

#: The IPv6 network that contains all IPv4 addresses.
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def network_from(text: str) -> Network:
    """Returns a network. An address is a network of one address, and an IPv4 network that is mapped to IPv6 becomes IPv4.

    Raises:
        ValueError: the text is neither an address nor a network.
    """
    network = ip_network(text)
    if isinstance(network, IPv4Network) or not network.subnet_of(_MAPPED):
        return network
    length = network.prefixlen - _MAPPED.prefixlen
    return IPv4Network((network.network_address.packed[-4:], length))
