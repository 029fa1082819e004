"""The server counts the clients of each proxy by their own addresses, and no client can choose its address."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.http.certificates import Certificate
from tests.process import serve
from tests.proxies.running import Place, Proxy, running

TEXT = {"content-type": "text/plain"}
#: With a byte a second, a client that has sent a body is refused for longer than a test takes.
LIMITS = ("--max-bytes-per-second", "1", "--max-connections-per-address", "1")
BODY = b"x" * 10_000
FIRST, SECOND = "127.0.0.71", "127.0.0.72"  # addresses of this machine, for clients


@pytest.fixture(params=["tcp", "unix"])
def counting(
    request: pytest.FixtureRequest,
    kind: Callable[[Place], list[str]],
    certificate: Certificate,
    tmp_path: Path,
) -> Iterator[Proxy]:
    """A proxy in front of a server that limits clients and trusts the proxy."""
    if request.param == "unix":
        upstream = str(tmp_path / "s")
        where: tuple[str, ...] = ("--uds", upstream, "--trusted-proxy", "unix")
    else:
        where = ("--trusted-proxy", "127.0.0.1")
    with serve("--memory", "--long-poll-timeout", "0.5", *LIMITS, *where) as server:
        if request.param == "tcp":
            upstream = server.url.removeprefix("http://")
        with running(kind, upstream, certificate, tmp_path) as proxy:
            yield proxy


def client_at(address: str) -> httpx.Client:
    """Returns a client that connects from an address of this machine."""
    transport = httpx.HTTPTransport(local_address=address, verify=False)
    return httpx.Client(transport=transport, timeout=10)


def status(client: httpx.Client, base: str, **headers: str) -> int:
    """Returns the status of a create with a body."""
    sent = {**TEXT, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return client.put(f"{base}/v1/stream/{uuid4()}", headers=sent, content=BODY).status_code


def test_clients_of_a_proxy_are_counted_by_addresses_that_they_cannot_choose(
    counting: Proxy,
) -> None:
    with client_at(FIRST) as first, client_at(SECOND) as second:
        assert status(first, counting.http) == 201
        assert status(first, counting.http) == 429
        assert status(first, counting.https) == 429
        for address in (SECOND, "203.0.113.9", "127.0.0.1", f"{SECOND}, 127.0.0.1", "unknown"):
            assert status(first, counting.http, x_forwarded_for=address) == 429
            assert status(first, counting.http, forwarded=f'for="{address}"') == 429
            assert status(first, counting.https, x_real_ip=address, via=address) == 429
        assert status(second, counting.https) == 201  # nobody has used up its share
        assert status(second, counting.http) == 429


def test_location_has_the_scheme_of_the_client(counting: Proxy) -> None:
    for base, address in ((counting.http, FIRST), (counting.https, SECOND)):
        url = f"{base}/v1/stream/{uuid4()}"
        with client_at(address) as client:
            assert client.put(url, headers=TEXT).headers["location"] == url


def test_connections_of_a_proxy_have_no_limit_per_address(counting: Proxy) -> None:
    with client_at(FIRST) as client, ThreadPoolExecutor(8) as pool:
        url = f"{counting.http}/v1/stream/{uuid4()}"
        client.put(url, headers=TEXT).raise_for_status()
        live = f"{url}?offset=-1&live=long-poll"
        answers = [*pool.map(lambda _: client.get(live).status_code, range(8))]
    assert answers == [204] * 8
