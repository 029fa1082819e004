"""A server behind each proxy, and a certificate for the proxies."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.http import certificates
from tests.http.certificates import Certificate
from tests.process import ServerProcess, serve
from tests.proxies.running import KINDS, Place, Proxy, running

WITHIN = 1.0  # seconds within which a response must pass the proxy


@pytest.fixture(scope="package")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificates.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="package")
def server() -> Iterator[ServerProcess]:
    with serve("--memory", "--long-poll-timeout", "0.5") as process:
        yield process


@pytest.fixture(scope="package", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[[Place], list[str]]:
    return KINDS[request.param]


@pytest.fixture(scope="package")
def proxy(
    kind: Callable[[Place], list[str]],
    server: ServerProcess,
    certificate: Certificate,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    directory = tmp_path_factory.mktemp("proxy")
    with running(kind, server.url.removeprefix("http://"), certificate, directory) as it:
        yield it


@pytest.fixture(params=["http", "https"])
def base(request: pytest.FixtureRequest, proxy: Proxy) -> str:
    """The base URL of the proxy for HTTP or HTTPS."""
    return proxy.http if request.param == "http" else proxy.https


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """A client that accepts compressed responses, as browsers do, and trusts any certificate."""
    headers = {"accept-encoding": "gzip, deflate"}
    with httpx.Client(verify=False, timeout=WITHIN, headers=headers) as client:
        yield client
