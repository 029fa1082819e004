"""Listening sockets, the TLS context, and their errors."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from durable_streams_server.http.serving.listening import UnixSocket, listen, tls_context, url_of
from tests.http import certificates


def test_url_of_tcp_socket_has_host_and_port() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert url_of(listening) == f"http://127.0.0.1:{port}"
        assert url_of(listening, tls=True) == f"https://127.0.0.1:{port}"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_url_of_ipv6_socket_has_brackets() -> None:
    with listen("::1", 0) as listening:
        assert url_of(listening).startswith("http://[::1]:")


@pytest.mark.parametrize("host", ["\xfc..example", "a\0b", "\udcff"])
def test_name_that_cannot_be_looked_up_raises_os_error(host: str) -> None:
    with pytest.raises(OSError, match="this is no name of a host"):
        listen(host, 0)


def test_accepted_connections_use_tcp_keepalive() -> None:  # TRAPS 49
    with listen("127.0.0.1", 0) as listening, socket.socket() as client:
        client.connect(listening.getsockname())
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                found = [
                    accepted.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (
                        socket.TCP_KEEPIDLE,
                        socket.TCP_KEEPINTVL,
                        socket.TCP_KEEPCNT,
                    )
                ]
                assert found == [75, 15, 4]


# -- Unix sockets ------------------------------------------------------------


def test_unix_socket_file_exists_until_socket_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    before = os.umask(0o027)
    try:
        with UnixSocket(str(path)) as listening, socket.socket(socket.AF_UNIX) as client:
            assert url_of(listening) == f"unix:{path}"
            assert stat.S_IMODE(path.stat().st_mode) == 0o750
            client.connect(str(path))
    finally:
        os.umask(before)
    assert not path.exists()


def test_unix_socket_file_of_dead_server_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    with UnixSocket(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_unix_socket_in_use_is_refused_and_keeps_working(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    with UnixSocket(path) as listening:
        with pytest.raises(OSError, match="in use"):
            UnixSocket(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            listening.accept()[0].close()


def test_unix_socket_of_busy_server_is_in_use(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    waiting: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        try:
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                if waiting[-1].connect_ex(path):
                    break
            with pytest.raises(OSError, match="in use"):
                UnixSocket(path)
        finally:
            for client in waiting:
                client.close()


def test_unix_socket_never_replaces_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        UnixSocket(str(path))
    assert path.read_text() == "precious"


def test_closing_unix_socket_keeps_file_of_its_replacement(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    first = UnixSocket(path)
    os.unlink(path)
    (tmp_path / "b").touch()  # so that the inode number is not reused
    with UnixSocket(path) as second:
        first.close()
        first.close()
        assert os.path.exists(path)
        assert second.fileno() >= 0
    assert not os.path.exists(path)


def test_unix_socket_path_that_is_too_long_or_in_no_directory_raises_os_error(
    tmp_path: Path,
) -> None:
    with pytest.raises(OSError, match="No such file") as raised:
        UnixSocket(str(tmp_path / "none" / "a"))
    assert raised.value.errno == errno.ENOENT
    with pytest.raises(OSError, match="too long"):
        UnixSocket(str(tmp_path / ("x" * 200)))


# -- TLS ---------------------------------------------------------------------


def test_tls_context_loads_certificate_and_key(tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    assert tls_context(made.chain, made.key).cert_store_stats()["x509"] == 0


def test_tls_context_explains_wrong_certificate_or_key(tmp_path: Path) -> None:
    made, other = certificates.make(tmp_path), certificates.make(tmp_path, "other")
    empty = tmp_path / "empty"
    empty.touch()
    bad = str(empty)
    none = str(tmp_path / "none")
    for chain, key, said in (
        (none, made.key, f"the TLS certificate '{none}' cannot be read: No such file"),
        (made.chain, none, f"the TLS key '{none}' cannot be read: No such file"),
        (str(tmp_path), made.key, "cannot be read: Is a directory"),
        (bad, made.key, "the TLS certificate .* is not one in PEM"),
        (made.key, made.key, "the TLS certificate .* is not one in PEM"),
        (made.chain, bad, "the TLS key .* is not one in PEM without a password"),
        (made.chain, made.chain, "the TLS key .* is not one in PEM without a password"),
        (made.chain, other.key, "the TLS key .* is that of another certificate"),
        (made.chain, certificates.with_password(made, tmp_path), "without a password"),
    ):
        with pytest.raises(ValueError, match=said) as raised:
            tls_context(chain, key)
        assert "\n" not in str(raised.value)
