"""Responses that no shared cache may keep, since not everybody may read them (TRAPS 42)."""

from ..protocol.render import Response
from .browser import Browser
from .request import Request


class PrivateBrowser(Browser):
    """Finishes responses as `Browser` does, and marks them private. A browser's own cache asks again before it uses one."""

    def finish(self, request: Request, response: Response) -> Response:
        """Adds the headers that every response has, and replaces what lets caches keep it."""
        super().finish(request, response)
        headers = response.headers
        for index, (name, value) in enumerate(headers):
            if name == b"cache-control":
                headers[index] = (name, _private(value))
        return response


def _private(value: bytes) -> bytes:
    """Returns a Cache-Control for whoever asked, and for nobody else."""
    if b"no-store" in value:
        return value
    return b"private, no-cache, no-transform" if b"no-transform" in value else b"private, no-cache"
