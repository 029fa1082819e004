"""Where a webhook may go (PROTOCOL 6.2, 12.8): what a URL may look like, and which addresses may be connected to.

A URL is judged twice. `check_url` judges its text, when a subscription is made. `check_address` judges an address that its
host has resolved to, each time a connection is made: only then is it known where the bytes go. Without both, whoever may
create a subscription could send requests into the operator's network.

Every refusal of a host or an address has the same words, so that nobody learns from them what the network looks like.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import msgspec

from ..errors import BadRequest
from ..protocol.arguments import require, require_each

MAX_WEBHOOK_URL_BYTES: Final = 2048  # any server takes as much; each subscription keeps its own
MAX_HOST_BYTES: Final = 253  # RFC 1035, 2.3.4, without the last dot

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_AUTHORITY: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?")
_FORBIDDEN: Final = re.compile(r"[^\x21-\x7e]|[\\#]")
# A resolver takes for an IPv4 address whatever has one to four parts in decimal, octal or hex, such as `127.1`,
# `0x7f000001` and `0177.0.0.1`. All of them end in a number, and no name does.
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def _networks(*entries: str) -> tuple[Network, ...]:
    return tuple(ip_network(entry) for entry in entries)


#: Private networks (RFC 1918, RFC 6598, RFC 4193): refused, unless a network in the allow list covers them.
_PRIVATE: Final = _networks(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"
)

#: Where clouds answer with credentials. Those that are link-local are refused as such; nothing opens these.
_METADATA: Final = _networks(
    "100.100.100.200",  # Alibaba; inside the shared range of RFC 6598
    "168.63.129.16",  # Azure; a public address
    "192.0.0.192",  # Oracle
    "fd00:ec2::/32",  # AWS; inside the unique local range, as are the next three
    "fd20:ce::/32",  # Google
    "fd00:c1::/32",  # Oracle
    "fd00:42::/32",  # Scaleway
)

#: Not for the public, whatever `ipaddress` of this Python version says of them (IANA's special-purpose registries).
_SPECIAL: Final = _networks(
    "0.0.0.0/8",  # this network, and the unspecified address
    "127.0.0.0/8",  # loopback; `_is_loopback` decides before this
    "169.254.0.0/16",  # link-local, with most clouds' metadata
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.31.196.0/24",  # a sink for misdirected DNS, as are 192.175.48.0/24 and 2620:4f:8000::/48
    "192.52.193.0/24",  # relays of multicast
    "192.88.99.0/24",  # relays of 6to4
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

#: The only unicast addresses that IPv6 routes globally. Outside are the mapped and compatible IPv4 addresses, NAT64
#: (64:ff9b::/96, 64:ff9b:1::/48), link-local, site-local, unique local, multicast, loopback and the unspecified address.
_GLOBAL_V6: Final = IPv6Network("2000::/3")

_LOOPBACK: Final = _networks("127.0.0.0/8", "::1")

#: Names that never leave a site (RFC 6762, 9476, 8375); an entry of the allow list may name hosts under them.
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
    """A webhook URL, taken apart once; what is connected to is what was checked.

    Attributes:
        scheme: `https`, or `http` for loopback.
        host: a name in lower case, or an address in its one spelling, without brackets.
        port: the one given, or the scheme's.
        path: path and query, as written.
    """

    scheme: str
    host: str
    port: int
    path: str


class _Rules(NamedTuple):
    """A list of entries, sorted by kind. `suffixes` begin with the dot."""

    names: frozenset[str]
    suffixes: tuple[str, ...]
    networks: tuple[Network, ...]

    def names_host(self, host: str) -> bool:
        return host in self.names or host.endswith(self.suffixes)

    def __bool__(self) -> bool:
        return bool(self.names or self.suffixes or self.networks)


class WebhookPolicy(msgspec.Struct, frozen=True):
    """Which webhook URLs are taken, and which addresses are connected to.

    Entries of the lists are host names (`hooks.example.com`, or `*.example.com` for every name below), addresses, or networks
    (`10.1.0.0/16`). The deny list wins over everything. When the allow list has entries, only what one of them matches is
    allowed, by name or by address: localhost too. A network in the allow list opens the private addresses inside it, and a
    name in it opens that name although it is of a local kind. Nothing opens metadata services, link-local addresses and the
    rest of what is not for the public.

    Attributes:
        allow_loopback: for development: takes `http://` to `localhost`, 127.0.0.0/8 and `[::1]`, and connects to them.
        allow: entries as above.
        deny: entries as above.

    Raises:
        TypeError: for a value of the wrong type.
        ValueError: for an entry that is neither a name, an address nor a network.
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
        """Judges the text of a webhook URL. No name is resolved.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED.
        """
        require(str, url=url)
        self.target(url)

    def target(self, url: str) -> Target:
        """Returns the parts of a webhook URL that has passed `check_url`.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED.
        """
        target = _parse(url)
        if target.scheme != "https":
            loopback = target.host == "localhost" or _is_loopback(target.host)
            if not (loopback and self.allow_loopback):
                raise _rejected("a webhook URL must begin with https://")
        address = _literal(target.host)
        if address is not None:
            self.check_address(target.host, target.host)
        elif not self._takes_name(target.host):
            raise _refused()
        return target

    def check_address(self, host: str, address: str) -> None:
        """Judges an address that a connection would go to.

        Args:
            host: the URL's host, in lower case: a name, or the address itself.
            address: what it resolved to, as `getaddrinfo` writes it.

        Raises:
            BadRequest: WEBHOOK_URL_REJECTED.
        """
        parsed = _literal(address)
        if parsed is None or not self._takes_address(host, parsed):
            raise _refused()

    def _takes_name(self, host: str) -> bool:
        allow, deny = _rules(self.allow), _rules(self.deny)
        if deny.names_host(host) or host in _METADATA_NAMES:
            return False
        named = allow.names_host(host)
        if allow and not named and not allow.networks:
            return False
        if _is_localhost(host):
            return self.allow_loopback
        return named or not _is_local_name(host)

    def _takes_address(self, host: str, address: Address) -> bool:
        allow, deny = _rules(self.allow), _rules(self.deny)
        named = _literal(host) is None
        if _is_in(address, deny.networks) or (named and not self._takes_name(host)):
            return False
        inside = _is_in(address, allow.networks)
        if allow and not inside and not allow.names_host(host):
            return False
        loopback = _is_in(address, _LOOPBACK)
        if loopback or _is_localhost(host):
            # Nobody else's name may lead to loopback, and localhost nowhere else.
            return self.allow_loopback and loopback and (not named or _is_localhost(host))
        if _is_in(address, _METADATA):
            return False
        return _is_public(address) or (inside and _is_in(address, _PRIVATE))


def is_address(host: str) -> bool:
    """Tells whether a target's host is an address, so that there is nothing to resolve."""
    return _literal(host) is not None


def _parse(url: str) -> Target:
    """Takes a URL apart, and refuses every form that two parsers might read in two ways."""
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
    """Returns the host in its one spelling: IPv6 as `ipaddress` writes it, anything else as it must have been written."""
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


@lru_cache(maxsize=256)  # one delivery asks several times, and the next one asks again
def _literal(text: str) -> Address | None:
    """Returns the address that `text` spells, if it spells one; an address with a zone is none."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _literal(host)
    return address is not None and _is_in(address, _LOOPBACK)


def _is_localhost(host: str) -> bool:
    """RFC 6761, 6.3."""
    return host == "localhost" or host.endswith(".localhost")


def _is_local_name(host: str) -> bool:
    return "." not in host or host.endswith(_LOCAL_SUFFIXES)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return False
    return address.is_global and not _is_in(address, _SPECIAL)


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=16)  # a server has one policy, of two lists
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
        return None if "%" in entry else ip_network(entry)
    except ValueError:
        return None


def _refused() -> BadRequest:
    return _rejected("the webhook URL's host is not allowed")


def _rejected(message: str) -> BadRequest:
    return BadRequest(message, "WEBHOOK_URL_REJECTED")
