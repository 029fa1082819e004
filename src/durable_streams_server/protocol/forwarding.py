"""Finds the address and the scheme of a client in the headers of proxies: `X-Forwarded-For`, `X-Forwarded-Proto` and `Forwarded` (RFC 7239).

Each proxy adds to the end of these lists, so the last entry comes from the peer of the connection. A client can send such headers too, and
many proxies only add to them. So `find_client` reads a list from the end, and believes an entry only if a trusted proxy added it.
`first_scheme` believes the whole list. It finds only the scheme, which the server sends back to the client in `Location`.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from .names import FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO

_SCHEMES: Final = {b"http": "http", b"https": "https"}
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
#: Matches an optional parameter and the delimiter after it: `;` inside an element, `,` between two elements, or the end.
_PARAMETER: Final = re.compile(
    rb'[ \t]*+(?:(%b)=(?:(%b)|"((?:[^"\\]|\\.)*+)"))?[ \t]*+([;,]|\Z)' % (_TOKEN, _TOKEN), re.DOTALL
)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
#: Matches an IPv4 address, or an IPv6 address in brackets, with an optional port (RFC 7239, 6). A port may be obfuscated.
_NODE: Final = re.compile(
    rb"(?:([0-9.]{7,15}+)|\[([0-9A-Fa-f:.]{2,45}+)\])(?::(?:[0-9]{1,5}+|_[0-9A-Za-z._-]++))?+"
)
#: Matches an IPv6 address without brackets, which only `X-Forwarded-For` may have.
_BARE_IPV6: Final = re.compile(rb"[0-9A-Fa-f:.]{2,45}+")


class Client(NamedTuple):
    """What proxies say about the client of a request.

    Attributes:
        address: the IP address in its usual spelling, or None if the peer of the connection is the client.
        scheme: `http` or `https`, or None if no proxy names one.
    """

    address: str | None
    scheme: str | None


class _Stop(NamedTuple):
    """The entry of a list at which the walk from its end stops.

    Attributes:
        address: the address of the client, or None if the peer of the connection is the client.
        following: how many entries follow the entry, or None if the list is empty.
    """

    address: str | None
    following: int | None


def find_client(headers: Mapping[bytes, bytes], trusts: Callable[[str], bool]) -> Client:
    """Returns what trusted proxies say about the client of a request whose peer is a trusted proxy.

    The client is the last address in the list that is not the address of a trusted proxy, or the first address if all are. An entry
    that names no address ends the walk. Then the last trusted proxy before it counts as the client.

    `X-Forwarded-For` takes precedence over `Forwarded`, and `X-Forwarded-Proto` over its `proto`, because proxies that set the `X-` headers
    tend to forward the client's own `Forwarded` unchanged.

    Args:
        headers: values by lower-case name. Repeated headers are joined with commas.
        trusts: returns whether an address is one of a trusted proxy.
    """
    said, protos = headers.get(X_FORWARDED_FOR), headers.get(X_FORWARDED_PROTO)
    elements = _elements(headers.get(FORWARDED, b""))
    in_elements = _walk((each.get(b"for") for each in reversed(elements)), _forwarded_node, trusts)
    stop = in_elements if said is None else _walk(_from_end(said), _x_forwarded_node, trusts)
    scheme = None if protos is None else _scheme_at(protos, stop.following)
    if scheme is None and in_elements.following is not None:
        scheme = _first_proto(elements[len(elements) - 1 - in_elements.following :])
    return Client(stop.address, scheme)


def first_scheme(headers: Mapping[bytes, bytes]) -> str | None:
    """Returns the scheme that the first entry names, or None if no proxy names one.

    `X-Forwarded-Proto` takes precedence, as in `find_client`.
    """
    protos = headers.get(X_FORWARDED_PROTO)
    scheme = None if protos is None else _scheme_at(protos, None)
    forwarded = headers.get(FORWARDED)
    if scheme is None and forwarded is not None:
        return _first_proto(_elements(forwarded))
    return scheme


def parse_address(text: str) -> str | None:
    """Returns an IP address in its usual spelling, or None if the text is none. An IPv4 address that is mapped to IPv6 becomes IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(address if mapped is None else mapped)


def _walk(
    entries: Iterator[bytes | None],
    parse: Callable[[bytes], str | None],
    trusts: Callable[[str], bool],
) -> _Stop:
    """Returns where a walk stops.

    Args:
        entries: the entries of a list, the last one first.
        parse: returns the address that an entry names, or None.
        trusts: returns whether an address is one of a trusted proxy.
    """
    found: str | None = None
    following: int | None = None
    for place, entry in enumerate(entries):
        following = place
        address = None if entry is None else parse(entry)
        if address is None:
            break
        found = address
        if not trusts(address):
            break
    return _Stop(found, following)


def _from_end(value: bytes) -> Iterator[bytes]:
    """Yields the entries of a list that is separated by commas, the last one first."""
    end = len(value)
    while end >= 0:
        begin = value.rfind(b",", 0, end)
        yield value[begin + 1 : end].strip(b" \t")
        end = begin


def _x_forwarded_node(entry: bytes) -> str | None:
    """Returns the address that an entry of `X-Forwarded-For` names, or None."""
    if _BARE_IPV6.fullmatch(entry) and entry.count(b":") > 1:
        return parse_address(entry.decode("ascii"))
    return _forwarded_node(entry)


def _forwarded_node(node: bytes) -> str | None:
    """Returns the address that a node of `Forwarded` names, or None for `unknown`, an obfuscated identifier or a malformed node."""
    match = _NODE.fullmatch(node)
    if match is None:
        return None
    ipv4, ipv6 = match.groups()
    if ipv4 is None and b":" not in ipv6:
        return None
    return parse_address((ipv4 or ipv6).decode("ascii"))


def _scheme_at(protos: bytes, following: int | None) -> str | None:
    """Returns the scheme in an entry of `X-Forwarded-Proto`, or None if the scheme is unknown.

    Args:
        protos: the list of schemes.
        following: how many entries follow the entry. The first entry counts if there are fewer, because proxies often replace the list,
            or if `following` is None.
    """
    entries = protos.split(b",")
    place = 0 if following is None else max(0, len(entries) - 1 - following)
    return _SCHEMES.get(entries[place].strip(b" \t").lower())


def _first_proto(elements: list[dict[bytes, bytes]]) -> str | None:
    """Returns the scheme in the first element of `Forwarded` that names one, or None."""
    proto = next((each[b"proto"] for each in elements if b"proto" in each), b"")
    return _SCHEMES.get(proto.lower())


def _elements(forwarded: bytes) -> list[dict[bytes, bytes]]:
    """Returns the parameters of each element of `Forwarded`. Returns no elements if the list is malformed anywhere."""
    elements: list[dict[bytes, bytes]] = []
    element: dict[bytes, bytes] = {}
    position = 0
    while position < len(forwarded):
        match = _PARAMETER.match(forwarded, position)
        if match is None:
            return []
        name, token, quoted, mark = match.groups()
        if name is not None:
            name = name.lower()
            if name in element:
                return []
            element[name] = _ESCAPE.sub(rb"\1", quoted) if token is None else token
        if mark != b";" and element:
            elements.append(element)
            element = {}
        position = match.end()
    if element:  # the list ends with a semicolon
        elements.append(element)
    return elements
