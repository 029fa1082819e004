"""Tests of `serve` with TLS and on a Unix socket, with the native and the ASGI adapter."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.http import certificates
from tests.http.certificates import Certificate
from tests.process import COMMAND, ServerProcess, address_of, launch, launch_with_log, serve

STREAM = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["native", "asgi"])
def lane(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return ("--memory", "--http", request.param)


def tls(certificate: Certificate) -> tuple[str, ...]:
    return ("--tls-cert", certificate.chain, "--tls-key", certificate.key)


def trusting(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate.chain)


def refused(*flags: str) -> subprocess.CompletedProcess[str]:
    """Runs a server that must refuse its flags, until it exits."""
    return subprocess.run(
        [*COMMAND, "serve", "--memory", *flags], capture_output=True, text=True, timeout=20
    )


# -- TLS ---------------------------------------------------------------------


def test_streams_are_served_over_https(lane: tuple[str, ...], certificate: Certificate) -> None:
    with (
        serve(*lane, *tls(certificate)) as server,
        httpx.Client(base_url=server.url, verify=trusting(certificate)) as http,
    ):
        assert server.url.startswith("https://127.0.0.1:")
        made = http.put(STREAM, headers=TEXT)
        assert made.headers["location"] == server.url + STREAM
        assert http.post(STREAM, content=b"x" * 100_000, headers=TEXT).status_code == 204
        assert http.get(STREAM).content == b"x" * 100_000
        with http.stream("GET", f"{STREAM}?offset=now&live=sse") as events:
            pieces = events.iter_bytes()
            assert next(pieces).startswith(b"retry:")
            http.post(STREAM, content=b"last", headers={**TEXT, "stream-closed": "true"})
            assert b"data:last" in b"".join(pieces)
        old = http.get(STREAM, headers={"connection": "close"})
        assert old.content.endswith(b"last")


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
def test_client_that_still_sends_an_oversized_body_receives_413(
    lane: tuple[str, ...], certificate: Certificate, encrypted: bool
) -> None:
    flags = tls(certificate) if encrypted else ()
    with (
        serve(*lane, *flags, "--max-body", "1m") as server,
        httpx.Client(base_url=server.url, verify=trusting(certificate)) as http,
    ):
        http.put(STREAM, headers=TEXT)
        pieces = (b"x" * 65536 for _ in range(200))
        for body in (b"x" * 10_000_000, pieces):
            assert http.post(STREAM, content=body, headers=TEXT).status_code == 413
        assert http.get(STREAM).content == b""


def test_stop_over_https_ends_live_reads_without_waiting_for_handshakes(
    lane: tuple[str, ...], certificate: Certificate
) -> None:
    with (
        serve(*lane, *tls(certificate)) as server,
        httpx.Client(base_url=server.url, verify=trusting(certificate)) as http,
        socket.create_connection((httpx.URL(server.url).host, httpx.URL(server.url).port or 0)),
    ):
        http.put(STREAM, headers=TEXT)
        with http.stream("GET", f"{STREAM}?offset=-1&live=sse") as events:
            pieces = events.iter_bytes()
            next(pieces)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert b"event: control" in b"".join(pieces)
        assert server.process.wait(5) == 0
        assert time.monotonic() - began < 1.5


def test_connection_without_tls_is_closed_silently(
    lane: tuple[str, ...], certificate: Certificate, capfd: pytest.CaptureFixture[str]
) -> None:
    with serve(*lane, *tls(certificate)) as server:
        url = httpx.URL(server.url)
        with socket.create_connection((url.host, url.port or 0), 5) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP/" not in plain.recv(1000)
        with httpx.Client(base_url=server.url, verify=trusting(certificate)) as http:
            assert http.get(STREAM).status_code == 404
    assert capfd.readouterr().err == ""


def test_bad_certificate_or_key_exits_2_and_creates_no_store(
    certificate: Certificate, tmp_path: Path
) -> None:
    none = str(tmp_path / "none")
    for flags, said in (
        (("--tls-cert", certificate.chain), "--tls-cert and --tls-key go together"),
        (("--tls-key", certificate.key), "--tls-cert and --tls-key go together"),
        (("--tls-cert", none, "--tls-key", certificate.key), f"certificate '{none}' cannot be"),
        (("--tls-cert", certificate.key, "--tls-key", certificate.key), "is not one in PEM"),
    ):
        shown = subprocess.run(
            [*COMMAND, "serve", "--data-dir", str(tmp_path / "data"), *flags],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert shown.returncode == 2
        (line,) = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
        assert said in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
def test_localhost_is_served_on_both_families(
    lane: tuple[str, ...], certificate: Certificate, encrypted: bool
) -> None:
    flags = tls(certificate) if encrypted else ()
    with launch(*lane, *flags, "--host", "localhost") as server:
        port = httpx.URL(server.url).port
        scheme = "https" if encrypted else "http"
        for host in ("127.0.0.1", "[::1]"):
            answer = httpx.get(f"{scheme}://{host}:{port}{STREAM}", verify=False)
            assert answer.status_code == 404
        server.process.terminate()
        assert server.process.wait(5) == 0


def test_unspecified_ipv6_address_is_served_on_both_families_and_says_so() -> None:
    process = subprocess.Popen(
        [*COMMAND, "serve", "--memory", "--no-auth", "--host", "::", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(
            r"Listening on http://\[::\]:(\d+) and http://0.0.0.0:\1, all addresses of IPv6 and IPv4\n",
            line,
        )
        assert found, line
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{found[1]}{STREAM}").status_code == 404
    finally:
        process.terminate()
        assert process.wait(10) == 0
        assert process.stdout is not None
        process.stdout.close()


# -- reload ------------------------------------------------------------------


def served(server: ServerProcess, http2: bool = False) -> bytes:
    """Returns the certificate that a server shows to a new client."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
    url = httpx.URL(server.url)
    with (
        socket.create_connection((url.host, url.port or 0), 5) as plain,
        context.wrap_socket(plain) as client,
    ):
        assert client.selected_alpn_protocol() == ("h2" if http2 else "http/1.1")
        return client.getpeercert(binary_form=True) or b""


def replace(old: Certificate, new: Certificate) -> None:
    """Puts the files of another certificate in the place of the old ones."""
    shutil.copy(new.chain, old.chain)
    shutil.copy(new.key, old.key)


def until_changed(server: ServerProcess, before: bytes) -> bytes:
    """Sends SIGHUP, waits until the server shows another certificate, and returns that one."""
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 5
    while (now := served(server)) == before:
        assert time.monotonic() < until, "the certificate stays the same"
        time.sleep(0.01)  # another process reads it
    return now


def test_hangup_makes_new_connections_use_the_new_certificate(
    lane: tuple[str, ...], tmp_path: Path
) -> None:
    current = certificates.make(tmp_path, "current")
    other = certificates.make(tmp_path, "other")
    trusted = trusting(current)
    with (
        serve(*lane, *tls(current)) as server,
        httpx.Client(base_url=server.url, verify=trusted) as http,
    ):
        http.put(STREAM, headers=TEXT)
        with http.stream("GET", f"{STREAM}?offset=-1&live=sse") as events:
            pieces = events.iter_bytes()
            next(pieces)
            before = served(server)
            assert served(server, http2=True) == before
            replace(current, other)
            after = until_changed(server, before)
            assert served(server, http2=True) == after
            context = trusting(other)
            assert httpx.get(server.url + STREAM, verify=context).status_code == 200
            # The open connection continues with the old certificate.
            answer = httpx.post(server.url + STREAM, content=b"new", headers=TEXT, verify=context)
            assert answer.status_code == 204
            assert b"data:new" in next(pieces)


def test_hangup_with_bad_or_mismatched_files_keeps_the_old_certificate(
    lane: tuple[str, ...], tmp_path: Path
) -> None:
    current = certificates.make(tmp_path, "current")
    other = certificates.make(tmp_path, "other")
    with launch_with_log(*lane, *tls(current), "--port", "0") as process:
        server = ServerProcess(process, address_of(process))
        before = served(server)
        assert process.stderr is not None
        for damage, said in (
            (lambda: shutil.copy(other.key, current.key), "is that of another certificate"),
            (lambda: Path(current.chain).write_text(""), "is not one in PEM"),
            (lambda: Path(current.chain).unlink(), "cannot be read: No such file or directory"),
        ):
            damage()
            process.send_signal(signal.SIGHUP)
            line = process.stderr.readline()
            assert (
                "ERROR reload of the TLS certificate failed, so nothing of it has changed:" in line
            )
            assert said in line
            assert served(server) == before
            assert served(server, http2=True) == before
        replace(current, other)
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline().endswith("WARNING reloaded the TLS certificate\n")
        assert served(server) != before
        process.terminate()
        assert process.communicate(timeout=10)[1] == ""


# -- Unix sockets ------------------------------------------------------------


def test_streams_are_served_on_a_unix_socket(lane: tuple[str, ...], tmp_path: Path) -> None:
    path = str(tmp_path / "streams.sock")
    with serve(*lane, "--uds", path) as server:
        assert server.url == f"unix:{path}"
        transport = httpx.HTTPTransport(uds=path)
        with httpx.Client(base_url="http://streams", transport=transport) as http:
            made = http.put(STREAM, headers=TEXT)
            assert made.headers["location"] == f"http://streams{STREAM}"
            made = http.put(STREAM + "b", headers={**TEXT, "x-forwarded-proto": "https"})
            assert made.headers["location"] == f"https://streams{STREAM}b"
            assert http.post(STREAM, content=b"hello", headers=TEXT).status_code == 204
            assert http.get(f"{STREAM}?offset=-1&live=long-poll").content == b"hello"
    assert not os.path.exists(path)


def test_unix_socket_is_replaced_only_if_its_server_is_dead(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "streams.sock")
    with launch("--memory", "--uds", path) as killed:
        shown = refused("--uds", path)
        assert shown.returncode == 3
        assert shown.stderr.count("\n") == 1
        assert f"cannot listen on unix:{path}: Address already in use" in shown.stderr
        killed.process.kill()
        killed.process.wait()
    assert os.path.exists(path)
    with serve("--memory", "--uds", path):
        pass
    assert not os.path.exists(path)


def test_uds_with_host_or_port_exits_2(tmp_path: Path) -> None:
    path = str(tmp_path / "streams.sock")
    for flag, value in (("--host", "127.0.0.1"), ("--port", "4437")):
        shown = refused("--uds", path, flag, value)
        assert shown.returncode == 2
        assert f"Error: --uds and {flag} exclude each other" in shown.stderr
    assert refused("--uds", "").returncode == 2


def test_unix_socket_that_cannot_be_created_prints_one_line_and_exits_3(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "a", tmp_path / ("x" * 200)):
        shown = refused("--uds", str(path))
        assert shown.returncode == 3
        assert shown.stderr.count("\n") == 1
