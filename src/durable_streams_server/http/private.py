"""Keeps responses out of caches if only some clients may read them (TRAPS 42)."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Final, Literal

from ..protocol.render import Response
from .browser import Browser
from .request import Request

#: Which caches may store a read: with `shared` all that the protocol allows, with `private` only the cache of one browser, with `secret` none.
Privacy = Literal["shared", "private", "secret"]

_READS: Final = ("GET", "HEAD")


def browser_for(
    privacy: Privacy, origins: Sequence[str], local: Container[bytes] | None = None
) -> Browser:
    """Returns an object that adds the common headers to responses, and marks them for caches."""
    if privacy == "shared":
        return Browser(origins, local)
    return (PrivateBrowser if privacy == "private" else SecretBrowser)(origins, local)


class PrivateBrowser(Browser):
    """Adds the common headers to responses like `Browser`, and marks them private. Caches of browsers must revalidate them."""

    def finish(self, request: Request, response: Response) -> Response:
        """Adds the common headers to a response, makes its Cache-Control private, and returns it."""
        super().finish(request, response)
        _change_cache_control(response, _private)
        return response


class SecretBrowser(Browser):
    """Adds the common headers to responses like `Browser`, and keeps reads that needed a token out of all caches."""

    def finish(self, request: Request, response: Response) -> Response:
        """Adds the common headers to a response and returns it. A read of a stream that is not public becomes `private, no-store`."""
        super().finish(request, response)
        if not response.is_public and request.method in _READS and response.status < 400:
            _change_cache_control(response, _secret)
        return response


def _change_cache_control(response: Response, change: Callable[[bytes], bytes]) -> None:
    """Changes the value of Cache-Control in a response."""
    headers = response.headers
    for index, (name, value) in enumerate(headers):
        if name == b"cache-control":
            headers[index] = (name, change(value))


def _private(value: bytes) -> bytes:
    """Returns a Cache-Control value that keeps the response out of shared caches."""
    if b"no-store" in value:
        return value
    return b"private, no-cache, no-transform" if b"no-transform" in value else b"private, no-cache"


def _secret(value: bytes) -> bytes:
    """Returns a Cache-Control value that keeps the response out of all caches."""
    return b"private, no-store, no-transform" if b"no-transform" in value else b"private, no-store"
