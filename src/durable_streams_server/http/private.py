"""Marks responses as private, so that no shared cache stores data that only some clients may read (TRAPS 42)."""

from ..protocol.render import Response
from .browser import Browser
from .request import Request


class PrivateBrowser(Browser):
    """Adds the common headers to responses like `Browser`, and marks them private. Caches of browsers must revalidate them."""

    def finish(self, request: Request, response: Response) -> Response:
        """Adds the common headers to a response, makes its Cache-Control private, and returns it."""
        super().finish(request, response)
        headers = response.headers
        for index, (name, value) in enumerate(headers):
            if name == b"cache-control":
                headers[index] = (name, _private(value))
        return response


def _private(value: bytes) -> bytes:
    """Returns a Cache-Control value that keeps the response out of shared caches."""
    if b"no-store" in value:
        return value
    return b"private, no-cache, no-transform" if b"no-transform" in value else b"private, no-cache"
