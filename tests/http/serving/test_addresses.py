"""The addresses of a host, and which of them need access control."""

import errno
import socket

import pytest

from durable_streams_server.http.serving import addresses
from durable_streams_server.http.serving.addresses import described, exposure_error, listen_on
from durable_streams_server.http.serving.listening import listen


def close(listening: list[socket.socket]) -> None:
    for each in listening:
        each.close()


def hosts(listening: list[socket.socket]) -> list[str]:
    return [each.getsockname()[0] for each in listening]


def ports(listening: list[socket.socket]) -> set[int]:
    return {each.getsockname()[1] for each in listening}


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """Makes some addresses missing on this machine."""

    def listen_without(host: str, port: int) -> socket.socket:
        if host in missing:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return listen(host, port)

    monkeypatch.setattr(addresses, "listen", listen_without)


@pytest.mark.parametrize("host", ["localhost", "LocalHost"])
def test_localhost_is_one_port_on_both_families(host: str) -> None:
    listening = listen_on(host, 0)
    try:
        assert hosts(listening) == ["127.0.0.1", "::1"]
        (port,) = ports(listening)
        assert described(listening) == f"http://127.0.0.1:{port} and http://[::1]:{port}"
        assert described(listening, tls=True).startswith("https://127.0.0.1:")
    finally:
        close(listening)


def test_unspecified_ipv6_address_is_every_address_of_both_families() -> None:
    listening = listen_on("::", 0)
    try:
        assert hosts(listening) == ["::", "0.0.0.0"]
        (port,) = ports(listening)
        text = f"http://[::]:{port} and http://0.0.0.0:{port}, all addresses of IPv6 and IPv4"
        assert described(listening) == text
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, peer = listening[1].accept()
            accepted.close()
            assert peer == client.getsockname()
    finally:
        close(listening)


@pytest.mark.parametrize(
    ("host", "missing", "left"),
    [
        ("localhost", "::1", ["127.0.0.1"]),
        ("localhost", "127.0.0.1", ["::1"]),
        ("::", "0.0.0.0", ["::"]),
    ],
)
def test_missing_address_family_is_left_out(
    monkeypatch: pytest.MonkeyPatch, host: str, missing: str, left: list[str]
) -> None:
    without(monkeypatch, missing)
    listening = listen_on(host, 0)
    try:
        assert hosts(listening) == left
        assert described(listening).endswith(" only") is (host == "::")
    finally:
        close(listening)


def test_host_whose_addresses_are_all_missing_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "127.0.0.1", "::1")
    with pytest.raises(OSError, match="Cannot assign") as raised:
        listen_on("localhost", 0)
    assert raised.value.errno == errno.EADDRNOTAVAIL


def test_port_in_use_on_one_family_is_refused_and_leaves_no_socket() -> None:
    with listen("::1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen_on("localhost", port)
    close(listen_on("localhost", port))


def test_port_zero_looks_for_port_that_is_free_on_both_families(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, int]] = []

    def listen_third_time(host: str, port: int) -> socket.socket:
        asked.append((host, port))
        if host == "::1" and len(asked) < 5:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return listen(host, port)

    monkeypatch.setattr(addresses, "listen", listen_third_time)
    listening = listen_on("localhost", 0)
    close(listening)
    assert [host for host, _ in asked] == ["127.0.0.1", "::1"] * 3
    assert len(listening) == 2


def test_other_hosts_have_one_address() -> None:
    listening = listen_on("127.0.0.1", 0)
    assert hosts(listening) == ["127.0.0.1"]
    close(listening)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_access_control(host: str) -> None:
    assert exposure_error(host, is_unix=False, is_protected=False, is_open=False) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "127.1", "0", ""])
def test_every_other_host_needs_auth_or_no_auth(host: str) -> None:
    refusal = exposure_error(host, is_unix=False, is_protected=False, is_open=False)
    assert refusal is not None
    assert "--auth" in refusal
    assert "--no-auth" in refusal
    assert exposure_error(host, is_unix=True, is_protected=False, is_open=False) is None
    assert exposure_error(host, is_unix=False, is_protected=True, is_open=False) is None
    assert exposure_error(host, is_unix=False, is_protected=False, is_open=True) is None


def test_auth_and_no_auth_exclude_each_other() -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        refusal = exposure_error(host, is_unix=False, is_protected=True, is_open=True)
        assert refusal == "--auth and --no-auth exclude each other"
