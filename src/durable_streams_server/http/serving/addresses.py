"""Listens on all addresses of a host: `localhost` and `::` stand for an address of IPv6 and one of IPv4.

The server has one socket for each address family, also for `::`. So the peer of an IPv4 connection always has a plain IPv4 address, never
one inside IPv6 such as `::ffff:127.0.0.1`.
"""

import errno
import socket
from typing import Final

from .listening import is_loopback, listen, url_of

#: The addresses of the hosts that have more than one.
_ADDRESSES: Final = {"localhost": ("127.0.0.1", "::1"), "::": ("::", "0.0.0.0")}
#: Errors of a machine that lacks an address or its family.
_MISSING: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
#: How often `listen_on` looks for a port that is free on every address.
_ATTEMPTS: Final = 20


def listen_on(host: str, port: int) -> list[socket.socket]:
    """Returns the listening sockets for a host, which all have the same port. An address that this machine lacks is left out.

    Args:
        host: an address, or a name. `localhost` stands for 127.0.0.1 and ::1, and `::` for all addresses of IPv6 and IPv4.
        port: the port. Port 0 picks a port that is free on every address.

    Raises:
        OSError: an address cannot be used, or this machine has none of them.
    """
    addresses = _ADDRESSES.get(host.lower(), (host,))
    for _ in range(_ATTEMPTS - 1):
        try:
            return _listen_on_all(addresses, port)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _listen_on_all(addresses, port)


def _listen_on_all(addresses: tuple[str, ...], port: int) -> list[socket.socket]:
    listening: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for address in addresses:
            try:
                listening.append(listen(address, port))
            except OSError as error:
                if error.errno not in _MISSING:
                    raise
                missing = error
            else:
                port = listening[-1].getsockname()[1]
        if missing is not None and not listening:
            raise missing
    except BaseException:
        for each in listening:
            each.close()
        raise
    return listening


def described(listening: list[socket.socket], tls: bool = False) -> str:
    """Returns the addresses of listening sockets as a text for people, which begins with a URL."""
    text = " and ".join(url_of(each, tls) for each in listening)
    hosts = {each.getsockname()[0] for each in listening if each.family != _UNIX}
    if hosts == {"::", "0.0.0.0"}:
        return f"{text}, all addresses of IPv6 and IPv4"
    if hosts == {"::"}:
        return f"{text}, all addresses of IPv6 only"
    return text


def exposure_error(
    host: str, name: str = "--host", *, is_unix: bool, is_protected: bool, is_open: bool
) -> str | None:
    """Returns why a server must not listen on a host, or None if it may.

    A server that other machines can reach needs access control, unless its operator states explicitly that it has none.

    Args:
        host: the host to listen on.
        name: what the operator calls the setting of the host.
        is_unix: whether the server listens on a Unix socket instead, which only this machine can reach.
        is_protected: whether the flag `--auth` is given.
        is_open: whether the flag `--no-auth` is given.
    """
    if is_protected and is_open:
        return "--auth and --no-auth exclude each other"
    if is_unix or is_protected or is_open or is_loopback(host):
        return None
    return (
        f"{name} {host} lets other machines reach every stream: give --auth to say who may do what, "
        "or --no-auth to let everybody do everything"
    )


_UNIX: Final = getattr(socket, "AF_UNIX", None)
