"""Refuses requests that name a host that is not this server's, so that no web page reaches a server on a developer's own machine.

A server that listens on loopback without access control trusts everyone on the machine, and the machine's browser runs the scripts of
strangers. A stranger can change the DNS entry of the page's own host from the stranger's address to 127.0.0.1 (DNS rebinding).
The page's requests to the server then have the same origin, so CORS and preflights do not stop them. But they still name the stranger's host.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Final

from ...errors import UnknownHost
from ...protocol.hosts import is_host
from ...protocol.names import HOST
from ..request import Request

_LOCALHOST: Final = "localhost"
_KEPT: Final = 256  # maximum number of Host values that are known to be allowed


class HostNames:
    """Knows the names of this machine, and those that the operator has listed.

    Args:
        listed: Further names of hosts, without ports, for example the name under which a proxy on this machine forwards requests.

    Raises:
        ValueError: A name is not the name of a host.
    """

    def __init__(self, listed: Iterable[str] = ()) -> None:
        self._names = {_plain(check_host_name(name)) for name in listed} | {_LOCALHOST}

    def add(self, name: str) -> None:
        """Adds one more name, from any thread."""
        self._names.add(_plain(name))

    def __contains__(self, name: str) -> bool:
        """Returns whether a name without a port, in any case, is known or ends in `.localhost`."""
        plain = _plain(name)
        return plain in self._names or plain.endswith("." + _LOCALHOST)


class HostCheck:
    """Allows requests that name an IP address, a name of this machine, or one of the names that the operator has listed.

    A request without a host is allowed, because every browser names one.

    Args:
        names: The names that requests may name.
    """

    def __init__(self, names: HostNames) -> None:
        self._names = names
        self._values: set[bytes | None] = {None, b""}  # values of Host that are allowed

    def __call__(self, request: Request) -> None:
        """Refuses a request that names another host.

        Raises:
            UnknownHost: UNKNOWN_HOST.
        """
        value = request.headers.get(HOST)
        if value in self._values:
            return
        assert value is not None
        if not self._allows(value):
            raise UnknownHost(
                "this server does not answer to the host that the request names; --allowed-host adds a name"
            )
        if len(self._values) < _KEPT:
            self._values.add(value)

    def _allows(self, value: bytes) -> bool:
        """Returns whether a valid value of Host names an IP address or an allowed host, with any port."""
        text = value.decode("ascii")
        if text.startswith("["):
            return True  # an IPv6 address, because nothing else has brackets
        name = text.partition(":")[0]
        return name in self._names or _is_ipv4(name.removesuffix("."))


def add_names_of_machine(add: Callable[[str], None]) -> threading.Thread:
    """Calls `add` with this machine's name at once, and later with its full name from another thread, because DNS may take seconds.

    Returns:
        The thread, which ends once the full name is added.
    """
    add(socket.gethostname())
    thread = threading.Thread(
        target=lambda: add(socket.getfqdn()), name="name-of-machine", daemon=True
    )
    thread.start()
    return thread


def check_host_name(name: str) -> str:
    """Returns the name of a host unchanged, after checking it.

    Raises:
        ValueError: It is not the name of a host, or has a port.
    """
    if ":" in name or not name.isascii() or not is_host(name.encode()):
        raise ValueError(f"{name!r} is not the name of a host, such as streams.example")
    return name


def _plain(name: str) -> str:
    """Returns the name of a host in lower case, without the dot that may end it."""
    return name.lower().removesuffix(".")


def _is_ipv4(name: str) -> bool:
    try:
        IPv4Address(name)
    except ValueError:
        return False
    return True
