"""Decides which webhook URLs are allowed, and which addresses the server may connect to (PROTOCOL 6.2, 12.8).

A webhook is checked twice. `check_url` checks the text of the URL when a client creates a subscription. `check_address` checks the
resolved address each time the server opens a connection. Without both checks, a client that may create subscriptions could send
requests into the operator's network.

All forbidden hosts and addresses get the same error message, so that clients learn nothing about the network from it.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import msgspec

from ..errors import BadRequest
from ..protocol.arguments import require, require_each
from ..protocol.networks import Network, network_from

#: Maximum bytes of a webhook URL, because each subscription stores one. All common servers accept URLs of this length.
MAX_WEBHOOK_URL_BYTES: Final = 2048
#: Maximum bytes of a host name without the final dot (RFC 1035, 2.3.4).
MAX_HOST_BYTES: Final = 253

Address: TypeAlias = IPv4Address | IPv6Address

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_AUTHORITY: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?")
_FORBIDDEN: Final = re.compile(r"[^\x21-\x7e]|[\\#]")
# Resolvers read one to four decimal, octal or hexadecimal parts as an IPv4 address, such as `127.1`, `0x7f000001` and `0177.0.0.1`.
# All of these end in a number, and no valid name does.
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def _networks(*entries: str) -> tuple[Network, ...]:
    return tuple(ip_network(entry) for entry in entries)


#: Private networks (RFC 1918, RFC 6598, RFC 4193). They are forbidden unless a network in the allow list covers the address.
_PRIVATE: Final = _networks(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"
)

#: Addresses of metadata services, which return the credentials of a cloud machine. No allow list can permit them. Link-local metadata
#: addresses are not listed here, because all link-local addresses are forbidden.
_METADATA: Final = _networks(
    "100.100.100.200",  # Alibaba; inside the shared range of RFC 6598
    "168.63.129.16",  # Azure; a public address
    "192.0.0.192",  # Oracle
    "fd00:ec2::/32",  # AWS; inside the unique local range, as are the next three
    "fd20:ce::/32",  # Google
    "fd00:c1::/32",  # Oracle
    "fd00:42::/32",  # Scaleway
)

#: Networks that are not public (IANA's special-purpose registries). Some versions of the module `ipaddress` treat some of them as public.
_SPECIAL: Final = _networks(
    "0.0.0.0/8",  # this network, and the unspecified address
    "127.0.0.0/8",  # loopback, which is checked before this list
    "169.254.0.0/16",  # link-local, which includes the metadata service of most clouds
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.31.196.0/24",  # AS112, as are 192.175.48.0/24 and 2620:4f:8000::/48
    "192.52.193.0/24",  # multicast relays
    "192.88.99.0/24",  # 6to4 relays
    "192.175.48.0/24",
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
    "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4, which holds an IPv4 address
    "2620:4f:8000::/48",
    "3fff::/20",  # documentation
)

#: The IPv6 network that contains all global unicast addresses. It excludes mapped and compatible IPv4 addresses, NAT64
#: (64:ff9b::/96, 64:ff9b:1::/48), link-local, site-local, unique local and multicast addresses, loopback, and the unspecified address.
_GLOBAL_V6: Final = IPv6Network("2000::/3")

_LOOPBACK: Final = _networks("127.0.0.0/8", "::1")

#: Suffixes of local names (RFC 6762, 9476, 8375). Such names are forbidden unless an entry of the allow list covers them.
_LOCAL_SUFFIXES: Final = (".local", ".localdomain", ".internal", ".home.arpa")

_METADATA_NAMES: Final = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
    }
)


class Target(NamedTuple):
    """The parts of a webhook URL. The server checks these parts and uses them for the connection, so it never parses the URL again.

    Attributes:
        scheme: `https`, or `http` for loopback.
        host: a name in lower case, or an address in its canonical form without brackets.
        port: the port of the URL, or the default port of the scheme.
        path: the path and the query, unchanged.
    """

    scheme: str
    host: str
    port: int
    path: str


class _Rules(NamedTuple):
    """The entries of an allow or deny list, grouped by kind. Each suffix begins with a dot."""

    names: frozenset[str]
    suffixes: tuple[str, ...]
    networks: tuple[Network, ...]

    def names_host(self, host: str) -> bool:
        """Returns whether an entry names `host` or a domain above it."""
        return host in self.names or host.endswith(self.suffixes)

    def __bool__(self) -> bool:
        return bool(self.names or self.suffixes or self.networks)


class WebhookPolicy(msgspec.Struct, frozen=True):
    """Decides which webhook URLs are allowed, and which addresses the server may connect to.

    The entries of both lists are host names (`hooks.example.com`, or `*.example.com` for all names below it), addresses, or networks
    (`10.1.0.0/16`). The deny list overrides everything else. If the allow list is not empty, only hosts and addresses that match one
    of its entries are allowed, and this includes localhost. A network in the allow list permits the private addresses inside it. A name in
    the allow list is permitted even if it is a local name. No entry can permit metadata services, link-local addresses, or other addresses
    that are neither public nor private.

    Attributes:
        allow_loopback: True allows `http://` URLs to `localhost`, 127.0.0.0/8 and `[::1]`, and connections to them. Use it for
            development.
        allow: the entries of the allow list.
        deny: the entries of the deny list.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: an entry is neither a host name, an address nor a network.
    """

    allow_loopback: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool, allow_loopback=self.allow_loopback)
        require(tuple, allow=self.allow, deny=self.deny)
        require_each(str, "hosts and networks", allow=self.allow, deny=self.deny)
        _rules(self.allow)
        _rules(self.deny)

    def check_url(self, url: str) -> None:
        """Checks the text of a webhook URL, without resolving its host name.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED if the URL is malformed or the policy forbids its host.
        """
        require(str, url=url)
        self.target(url)

    def target(self, url: str) -> Target:
        """Checks the text of a webhook URL, and returns its parts.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED if the URL is malformed or the policy forbids its host.
        """
        target = _parse(url)
        if target.scheme != "https":
            loopback = target.host == "localhost" or _is_loopback(target.host)
            if not (loopback and self.allow_loopback):
                raise _rejected("a webhook URL must begin with https://")
        address = _literal(target.host)
        if address is not None:
            self.check_address(target.host, target.host)
        elif not self._allows_name(target.host):
            raise _refused()
        return target

    def check_address(self, host: str, address: str) -> None:
        """Checks an address before the server connects to it.

        Args:
            host: the host of the URL in lower case, which is a name or the address itself.
            address: the address of the host, in the format of `getaddrinfo`.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED if the policy forbids the address.
        """
        parsed = _literal(address)
        if parsed is None or not self._allows_address(host, parsed):
            raise _refused()

    def _allows_name(self, host: str) -> bool:
        allow, deny = _rules(self.allow), _rules(self.deny)
        if deny.names_host(host) or host in _METADATA_NAMES:
            return False
        named = allow.names_host(host)
        if allow and not named and not allow.networks:
            return False
        if _is_localhost(host):
            return self.allow_loopback
        return named or not _is_local_name(host)

    def _allows_address(self, host: str, address: Address) -> bool:
        allow, deny = _rules(self.allow), _rules(self.deny)
        named = _literal(host) is None
        if _is_in(address, deny.networks) or (named and not self._allows_name(host)):
            return False
        inside = _is_in(address, allow.networks)
        if allow and not inside and not allow.names_host(host):
            return False
        loopback = _is_in(address, _LOOPBACK)
        if loopback or _is_localhost(host):
            # Only localhost may resolve to a loopback address, and localhost may resolve to no other address.
            return self.allow_loopback and loopback and (not named or _is_localhost(host))
        if _is_in(address, _METADATA):
            return False
        return _is_public(address) or (inside and _is_in(address, _PRIVATE))


def is_address(host: str) -> bool:
    """Returns whether the host of a target is an address, which needs no resolving."""
    return _literal(host) is not None


def _parse(url: str) -> Target:
    """Returns the parts of a URL. Rejects every form that two parsers might read differently."""
    if len(url) > MAX_WEBHOOK_URL_BYTES:
        raise _rejected(f"a webhook URL may have {MAX_WEBHOOK_URL_BYTES} bytes")
    if _FORBIDDEN.search(url):
        raise _rejected(
            "a webhook URL must be visible ASCII, without a backslash and without a fragment"
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _rejected("the webhook URL is malformed") from None
    if parts.scheme not in ("http", "https"):
        raise _rejected("a webhook URL must begin with https://")
    match = _AUTHORITY.fullmatch(parts.netloc.lower())
    if match is None:
        raise _rejected("the webhook URL's host is malformed")
    port = int(match[3]) if match[3] else {"http": 80, "https": 443}[parts.scheme]
    if not 1 <= port <= 65535:
        raise _rejected("the webhook URL's port is out of range")
    path = url[url.index("//") + 2 + len(parts.netloc) :]
    if not path.startswith("/"):
        path = "/" + path  # RFC 9112, 3.2.1
    return Target(parts.scheme, _host(match[1], match[2]), port, path)


def _host(bracketed: str | None, bare: str) -> str:
    """Returns the host of a URL in its canonical form. Only an IPv6 address can change, to the form that `ipaddress` writes."""
    address = _literal(bracketed or bare)
    if bracketed is not None:
        if isinstance(address, IPv6Address):
            return str(address)
    elif isinstance(address, IPv4Address) or _is_name(bare):
        return bare
    raise _rejected("the webhook URL's host is malformed")


def _is_name(text: str) -> bool:
    return (
        len(text) <= MAX_HOST_BYTES
        and _NAME.fullmatch(text) is not None
        and _ENDS_IN_NUMBER.fullmatch(text) is None
    )


@lru_cache(maxsize=256)  # each delivery asks several times for the same host
def _literal(text: str) -> Address | None:
    """Returns the address in `text`, or None if the text is not an address or has an IPv6 zone."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _literal(host)
    return address is not None and _is_in(address, _LOOPBACK)


def _is_localhost(host: str) -> bool:
    """Returns whether a name is `localhost` or a name below it (RFC 6761, 6.3)."""
    return host == "localhost" or host.endswith(".localhost")


def _is_local_name(host: str) -> bool:
    return "." not in host or host.endswith(_LOCAL_SUFFIXES)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return False
    return address.is_global and not _is_in(address, _SPECIAL)


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=16)  # a server has one policy with two lists
def _rules(entries: tuple[str, ...]) -> _Rules:
    names: set[str] = set()
    suffixes: list[str] = []
    networks: list[Network] = []
    for entry in entries:
        if (network := _network(entry)) is not None:
            networks.append(network)
        elif _is_name(name := entry.lower().removeprefix("*.")):
            suffixes.append(f".{name}") if entry.startswith("*.") else names.add(name)
        else:
            raise ValueError(f"{entry!r} is neither a host name, an address nor a network")
    return _Rules(frozenset(names), tuple(suffixes), tuple(networks))


def _network(entry: str) -> Network | None:
    try:
        return None if "%" in entry else network_from(entry)
    except ValueError:
        return None


def _refused() -> BadRequest:
    return _rejected("the webhook URL's host is not allowed")


def _rejected(message: str) -> BadRequest:
    return BadRequest(message, "WEBHOOK_URL_REJECTED")
