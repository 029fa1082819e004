"""Creates the listening sockets of a server, over TCP or Unix sockets, and its TLS context."""

import contextlib
import errno
import os
import socket
import ssl
import stat
import sys
from ipaddress import ip_address
from typing import Final

from .alpn import HTTP1, HTTP2, speaks_http2

#: Maximum number of connections that the system queues until the server accepts them.
BACKLOG: Final = 2048
#: TCP keepalive: seconds of silence before the first probe, seconds between probes, and the number of unanswered probes. A client that
#: disappears without a FIN is found after 75 + 4 * 15 seconds, even if the server sends it nothing (TRAPS 49).
_PROBES: Final = {"TCP_KEEPIDLE": 75, "TCP_KEEPALIVE": 75, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening TCP socket, whose connections use TCP keepalive. Port 0 picks a free port.

    Raises:
        OSError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not _can_be_looked_up(host):
        raise OSError("this is no name of a host")
    listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):  # TCP_KEEPALIVE is the name of TCP_KEEPIDLE on macOS
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return listening


def _can_be_looked_up(host: str) -> bool:
    """Returns whether Python can encode a host for a look-up. It would raise a TypeError and leave a socket open otherwise."""
    try:
        host.encode("ascii" if host.isascii() else "idna")
    except UnicodeError:
        return False
    return "\0" not in host


class UnixSocket(socket.socket):
    """A listening Unix socket, whose file is removed when the socket is closed.

    The mode of the file is 777 less the umask. To connect, a client needs write permission, so with the usual umask of 022 only the
    server's own user can connect.

    Args:
        path: path of the socket's file. A file that a dead server left there is replaced.

    Raises:
        OSError: the file cannot be made, or another server listens there.
    """

    def __init__(self, path: str) -> None:
        if sys.platform == "win32":
            raise OSError(errno.EAFNOSUPPORT, "there are no Unix sockets on this platform")
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = ""
        try:
            self._bind(path)
            self.listen(BACKLOG)
        except BaseException:
            self.close()
            raise

    def _bind(self, path: str) -> None:
        """Binds the socket to its path. Replaces a file that a dead server left there."""
        try:
            self.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                raise FileExistsError(errno.EEXIST, "there is a file that is no socket") from None
            if _is_alive(path):
                raise
            os.unlink(path)
            self.bind(path)
        self._path = os.path.abspath(path)
        self._inode = os.stat(path).st_ino

    def close(self) -> None:
        """Closes the socket and removes its file, unless another socket has replaced the file."""
        super().close()
        path, self._path = self._path, ""
        if path:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == self._inode:
                    os.unlink(path)


def _is_alive(path: str) -> bool:
    """Returns whether a server listens on a Unix socket, even if it is too busy to accept."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) != errno.ECONNREFUSED


def url_of(listening: socket.socket, tls: bool = False) -> str:
    """Returns the address of a listening socket as a URL, or as `unix:` and the path of its file."""
    address = listening.getsockname()
    if isinstance(address, str):
        return f"unix:{address}"
    scheme = "https" if tls else "http"
    host, port = address[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def public_url_of(listening: socket.socket, tls: bool = False) -> str | None:
    """Returns the URL at which other machines may reach a listening socket.

    Returns None for a Unix socket, and for a TCP socket that listens on every address.
    """
    address = listening.getsockname()
    if isinstance(address, str) or ip_address(address[0]).is_unspecified:
        return None
    return url_of(listening, tls)


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach a server that listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(certificate: str, key: str, *, http2: bool = True) -> ssl.SSLContext:
    """Returns a TLS context with a server's certificate.

    Args:
        certificate: path of a PEM file with the server's certificate and its intermediate certificates.
        key: path of a PEM file with the private key of the certificate, without a password.
        http2: whether clients are offered HTTP/2 besides HTTP/1.1. Without the package `zttp`, they never are.

    Raises:
        ValueError: a file cannot be read or has other content, or the key belongs to another certificate.
    """
    for what, path in (("certificate", certificate), ("key", key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise ValueError(f"the TLS {what} {path!r} cannot be read: {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except ssl.SSLError:
        raise ValueError(f"the TLS certificate {certificate!r} is not one in PEM") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols([HTTP2, HTTP1] if http2 and speaks_http2() else [HTTP1])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise ValueError(f"the TLS key {key!r} is that of another certificate") from None
        raise ValueError(f"the TLS key {key!r} is not one in PEM without a password") from None
    return context


def _no_password() -> str:
    """Raises ValueError, because otherwise OpenSSL would ask for a password at the terminal."""
    raise ValueError
