"""A caching nginx between the server and browsers of several origins."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.http.certificates import Certificate
from tests.process import serve
from tests.proxies.running import nginx_that_caches, running
from tests.proxies.test_live import following, until_up_to_date

JSON = {"content-type": "application/json"}
ORIGINS = ("https://a.example", "https://b.example")
BIG = "[" + ",".join(map(str, range(5000))) + "]"


@contextmanager
def caching(certificate: Certificate, directory: Path, *flags: str) -> Iterator[str]:
    """Runs a caching nginx in front of a server that allows two origins, and yields its base URL."""
    listed = [part for origin in ORIGINS for part in ("--cors-origin", origin)]
    with serve("--memory", *listed, *flags) as server:
        upstream = server.url.removeprefix("http://")
        with running(nginx_that_caches, upstream, certificate, directory) as proxy:
            yield proxy.http


@pytest.fixture(scope="module")
def cached(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with caching(certificate, tmp_path_factory.mktemp("nginx")) as address:
        yield address


@pytest.fixture
def url(cached: str, client: httpx.Client) -> str:
    """The URL of a new stream with the value 1."""
    return new_stream(client, cached)


def new_stream(client: httpx.Client, base: str) -> str:
    """Creates a stream with the value 1 and returns its URL."""
    url = f"{base}/v1/stream/{uuid4()}"
    client.put(url, headers=JSON, content="[1]").raise_for_status()
    return url


def test_cache_never_serves_a_stale_page_of_an_open_stream(client: httpx.Client, url: str) -> None:
    assert client.get(url).json() == [1]
    assert client.get(url).json() == [1]
    client.post(url, headers=JSON, content="2").raise_for_status()
    assert client.get(url).json() == [1, 2]
    client.delete(url).raise_for_status()
    assert client.get(url).status_code == 404
    client.put(url, headers=JSON, content="[7]").raise_for_status()
    assert client.get(url).json() == [7]


def last_page(client: httpx.Client, url: str) -> str:
    """Closes a stream with a large last page, and returns the URL of that page."""
    offset = client.head(url).headers["stream-next-offset"]
    client.post(url, headers=JSON | {"stream-closed": "true"}, content=BIG).raise_for_status()
    return f"{url}?offset={offset}"


def test_each_origin_gets_its_own_answer_from_the_cache(client: httpx.Client, url: str) -> None:
    page = last_page(client, url)
    for cache in ("MISS", "HIT"):
        for origin in (*ORIGINS, "https://c.example"):
            answer = client.get(page, headers={"origin": origin})
            allowed = origin if origin in ORIGINS else None
            assert answer.headers.get("access-control-allow-origin") == allowed, (cache, origin)
            assert answer.headers["x-cache"] == cache
            assert len(answer.json()) == 5000


@pytest.mark.parametrize("header", ["cookie", "authorization"])
def test_cache_keeps_no_page_requested_with_credentials(
    client: httpx.Client, url: str, header: str
) -> None:
    page = last_page(client, url)
    for _ in range(2):
        answer = client.get(page, headers={header: "a=b"})
        assert answer.headers["x-cache"] == "MISS"
        assert len(answer.json()) == 5000


def test_shared_cache_age_lets_nginx_keep_a_growing_page(
    client: httpx.Client, certificate: Certificate, tmp_path: Path
) -> None:
    """Browsers still revalidate the page each time, and nginx answers them."""
    with caching(certificate, tmp_path, "--shared-cache-age", "60") as address:
        url = new_stream(client, address)
        assert client.get(url).headers["x-cache"] == "MISS"
        kept = client.get(url)
        assert (kept.headers["x-cache"], kept.json()) == ("HIT", [1])
        again = client.get(url, headers={"if-none-match": kept.headers["etag"]})
        assert (again.headers["x-cache"], again.status_code) == ("HIT", 304)


def test_cache_sends_gzip_only_to_clients_that_accept_it(client: httpx.Client, url: str) -> None:
    page = last_page(client, url)
    for coding in ("gzip", "identity", "gzip", "identity"):
        answer = client.get(page, headers={"accept-encoding": coding})
        assert len(answer.json()) == 5000
        assert answer.headers.get("content-encoding", "identity") == coding


def test_nginx_cache_sends_every_event_to_both_readers_of_one_url(
    client: httpx.Client, url: str
) -> None:
    with ExitStack() as readers, httpx.Client() as writer:
        both = [readers.enter_context(following(client, url)) for _ in range(2)]
        for coming in both:
            assert "data:[1]" in until_up_to_date(coming)
        writer.post(url, headers=JSON, content="2").raise_for_status()
        for coming in both:
            assert "data:[2]" in next(coming)
