"""Requests of every kind except live reads, through each proxy."""

import os
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
OCTETS = {"content-type": "application/octet-stream"}
LARGE = 9 * 1024 * 1024


@pytest.fixture
def url(base: str) -> str:
    """The URL of a stream that does not exist yet."""
    return f"{base}/v1/stream/{uuid4()}"


def whole(client: httpx.Client, url: str) -> bytes:
    """Returns the content of a stream, read page by page."""
    got, offset = b"", "-1"
    while True:
        page = client.get(url, params={"offset": offset}).raise_for_status()
        got, offset = got + page.content, page.headers["stream-next-offset"]
        if "stream-up-to-date" in page.headers:
            return got


def test_proxy_forwards_every_http_method(client: httpx.Client, url: str) -> None:
    assert client.get(url).status_code == 404
    assert client.put(url, headers=JSON).status_code == 201
    assert client.put(url, headers=JSON).status_code == 200
    assert client.put(url, headers=TEXT).status_code == 409
    assert client.post(url, headers=JSON, content="[1,2]").status_code == 204
    assert client.post(url, headers=JSON, content="no value").status_code == 400
    assert client.get(url).json() == [1, 2]
    assert client.head(url).headers["content-type"] == "application/json"
    assert client.options(url).status_code == 204
    closed = client.post(url, headers={"stream-closed": "true"})
    assert (closed.status_code, closed.headers["stream-closed"]) == (204, "true")
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == 404


def test_location_has_the_address_that_the_client_used(client: httpx.Client, url: str) -> None:
    assert client.put(url, headers=TEXT).headers["location"] == url


@pytest.mark.parametrize("headers", [TEXT, JSON, OCTETS])
def test_proxy_forwards_large_bodies_unchanged(
    client: httpx.Client, url: str, headers: dict[str, str]
) -> None:
    """The server and the proxies compress the text, but not the random octets."""
    body = (
        os.urandom(LARGE)
        if headers is OCTETS
        else b'"' + b"0123456789abcde " * (LARGE // 16) + b'"'
    )
    client.put(url, headers=headers).raise_for_status()
    client.post(url, headers=headers, content=body, timeout=20).raise_for_status()
    client.timeout = httpx.Timeout(20)
    expected = b"[" + body + b"]" if headers is JSON else body
    assert whole(client, url) == expected


def test_matching_etag_gets_304(client: httpx.Client, url: str) -> None:
    """nginx and HAProxy turn the ETag of a page that they compress into a weak one."""
    client.put(url, headers=TEXT, content="text " * 2000).raise_for_status()
    tag = client.get(url).headers["etag"]
    assert client.get(url, headers={"if-none-match": tag}).status_code == 304
    client.post(url, headers=TEXT, content="more").raise_for_status()
    assert client.get(url, headers={"if-none-match": tag}).status_code == 200


def test_many_requests_share_connections_and_all_are_answered(
    client: httpx.Client, url: str
) -> None:
    client.put(url, headers=JSON).raise_for_status()

    def work(worker: int) -> list[int]:
        statuses = []
        for number in range(50):
            content = str(worker * 50 + number)
            statuses.append(client.post(url, headers=JSON, content=content).status_code)
            statuses.append(client.head(url).status_code)
        return statuses

    client.timeout = httpx.Timeout(20)
    with ThreadPoolExecutor(8) as pool:
        answered = [status for statuses in pool.map(work, range(8)) for status in statuses]
    assert answered == [204, 200] * 400
    assert sorted(client.get(url).json()) == list(range(400))
