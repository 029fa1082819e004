"""Runs real proxies on loopback, each with the configuration that docs/proxies.md shows.

The fenced blocks of that page are the templates. Only addresses, paths and the host name are replaced, and settings are added that let
the test's proxy run beside one of the system.
"""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.http.certificates import Certificate

PAGE: Final = Path(__file__).parents[2] / "docs" / "proxies.md"
START_TIMEOUT: Final = 20.0  # seconds
STOP_TIMEOUT: Final = 10.0
PATHS: Final = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


@dataclass(frozen=True)
class Place:
    """The settings of a proxy.

    Attributes:
        upstream: host and port of the server behind the proxy, or the path of its Unix socket.
        http: the proxy's port for plain HTTP.
        https: the proxy's port for HTTPS.
        certificate: the proxy's certificate for HTTPS.
        directory: the directory for the proxy's files.
    """

    upstream: str
    http: int
    https: int
    certificate: Certificate
    directory: Path


@dataclass(frozen=True)
class Proxy:
    """The name and the two base URLs of a running proxy."""

    name: str
    http: str
    https: str


def shown(language: str) -> list[str]:
    """Returns the code blocks of docs/proxies.md in one language, such as `nginx`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)
    assert blocks, language
    return blocks


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """Returns a text with each old string replaced by the new one. The text must contain every old string."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def unix(prefix: str, place: Place) -> str:
    """Returns the upstream address for a proxy's configuration, with `prefix` if it is a Unix socket."""
    return prefix + place.upstream if place.upstream.startswith("/") else place.upstream


def nginx(place: Place, caching: bool = False) -> list[str]:
    """Writes nginx's configuration and returns its command. It compresses every response that it can."""
    server = replaced(
        shown("nginx")[0],
        ("server 127.0.0.1:4437;", f"server {unix('unix:', place)};"),
        (
            "listen 443 ssl http2;",
            f"listen 127.0.0.1:{place.http}; listen 127.0.0.1:{place.https} ssl http2;",
        ),
        ("/etc/ssl/streams.pem", place.certificate.chain),
        ("/etc/ssl/streams.key", place.certificate.key),
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {place.directory}/{kind};\n" for kind in kinds)
    cache = ""
    if caching:
        cache = replaced(
            shown("nginx")[1], ("/var/cache/nginx/streams", f"{place.directory}/cache")
        )
        cache += "add_header X-Cache $upstream_cache_status always;\n"
    configuration = f"""
        daemon off; master_process off; pid {place.directory}/pid; error_log stderr;
        events {{ }}
        http {{
            access_log off;
            gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any; gzip_vary off;
            {temporary}{cache}{server}
        }}"""
    file = place.directory / "nginx.conf"
    file.write_text(configuration)
    return ["nginx", "-p", str(place.directory), "-c", str(file), "-e", "stderr"]


def nginx_that_caches(place: Place) -> list[str]:
    """Does the same as `nginx`, with the cache turned on."""
    return nginx(place, caching=True)


def caddy(place: Place) -> list[str]:
    """Writes Caddy's configuration and returns its command."""
    block = replaced(
        shown("caddyfile")[0],
        ("reverse_proxy 127.0.0.1:4437", f"reverse_proxy {unix('unix/', place)}"),
    )
    tls = f"tls {place.certificate.chain} {place.certificate.key}"
    sites = {f"http://127.0.0.1:{place.http}": "", f"https://127.0.0.1:{place.https}": tls}
    written = [
        replaced(block, ("streams.example {", f"{address} {{\n    bind 127.0.0.1\n    {more}"))
        for address, more in sites.items()
    ]
    options = f"{{\n    admin off\n    storage file_system {place.directory}\n}}\n"
    file = place.directory / "Caddyfile"
    file.write_text(options + "".join(written))
    return ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]


def haproxy(place: Place) -> list[str]:
    """Writes HAProxy's configuration and returns its command."""
    pem = place.directory / "both.pem"
    pem.write_text(
        Path(place.certificate.chain).read_text() + Path(place.certificate.key).read_text()
    )
    configuration = replaced(
        shown("haproxy")[0],
        ("bind :443 ssl", f"bind 127.0.0.1:{place.http}\n    bind 127.0.0.1:{place.https} ssl"),
        ("/etc/haproxy/streams.pem", str(pem)),
        ("server streams 127.0.0.1:4437", f"server streams {unix('unix@', place)}"),
    )
    file = place.directory / "haproxy.cfg"
    file.write_text(configuration)
    return ["haproxy", "-db", "-q", "-f", str(file)]


KINDS: Final[dict[str, Callable[[Place], list[str]]]] = {
    "nginx": nginx,
    "caddy": caddy,
    "haproxy": haproxy,
}


@contextmanager
def running(
    kind: Callable[[Place], list[str]], upstream: str, certificate: Certificate, directory: Path
) -> Iterator[Proxy]:
    """Runs a proxy in front of a server during the block."""
    first, second = free_ports(2)
    place = Place(upstream, first, second, certificate, directory)
    command = kind(place)
    program = shutil.which(command[0], path=PATHS)
    assert program is not None, f"{command[0]} is not installed: `make test` installs it"
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *command[1:]],
            stdout=output,
            stderr=output,
            env={"PATH": PATHS, "HOME": str(directory), "XDG_DATA_HOME": str(directory)},
        )
    try:
        for port in (first, second):
            wait_until_listening(process, port, log)
        yield Proxy(command[0], f"http://127.0.0.1:{first}", f"https://127.0.0.1:{second}")
        assert process.poll() is None, log.read_text()
    finally:
        process.kill()
        process.wait(STOP_TIMEOUT)


def free_ports(count: int) -> list[int]:
    """Returns ports on which no process listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Waits until a port accepts connections.

    Raises:
        AssertionError: the process has ended or took too long. The message is the output of the process.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)  # no proxy gives a signal when it listens
        else:
            return
    raise AssertionError(log.read_text())
