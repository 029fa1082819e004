"""Responses get a Cache-Control that keeps them out of caches which must not store them (TRAPS 42)."""

import pytest

from durable_streams_server.http.private import (
    PrivateBrowser,
    SecretBrowser,
    browser_for,
)
from durable_streams_server.http.request import NO_REQUEST, Request
from durable_streams_server.protocol.render import Response


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"public, max-age=86400", b"private, no-cache"),
        (b"no-cache", b"private, no-cache"),
        (b"no-cache, no-transform", b"private, no-cache, no-transform"),
        (b"no-store", b"no-store"),
    ],
)
def test_cache_control_becomes_private_unless_it_forbids_storing(
    value: bytes, expected: bytes
) -> None:
    response = Response(200, [(b"etag", b'"1"'), (b"cache-control", value)])
    finished = PrivateBrowser(["*"]).finish(NO_REQUEST, response)
    assert finished.headers == [(b"etag", b'"1"'), (b"cache-control", expected)]
    assert (b"access-control-allow-origin", b"*") in finished.all_headers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"public, max-age=86400", b"private, no-store"),
        (b"no-cache", b"private, no-store"),
        (b"no-cache, no-transform", b"private, no-store, no-transform"),
        (b"no-store", b"private, no-store"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_read_that_needed_a_token_is_stored_by_no_cache(
    method: str, value: bytes, expected: bytes
) -> None:
    response = Response(200, [(b"cache-control", value)])
    finished = SecretBrowser([]).finish(Request(method, b"/a", b"", {}), response)
    assert finished.headers == [(b"cache-control", expected)]


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("GET", Response(200, [(b"cache-control", b"no-cache")], is_public=True)),
        ("GET", Response(404, [(b"cache-control", b"no-cache")])),
        ("POST", Response(204, [(b"cache-control", b"no-cache")])),
    ],
)
def test_public_reads_errors_and_writes_keep_their_cache_control(
    method: str, response: Response
) -> None:
    finished = SecretBrowser([]).finish(Request(method, b"/a", b"", {}), response)
    assert finished.headers == [(b"cache-control", b"no-cache")]


def test_privacy_names_the_kind_of_browser() -> None:
    assert type(browser_for("shared", [])).__name__ == "Browser"
    assert type(browser_for("private", [])) is PrivateBrowser
    assert type(browser_for("secret", [])) is SecretBrowser
