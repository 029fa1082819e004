"""Answers requests for the OpenAPI document."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from ...protocol.names import CONTENT_TYPE
from ...protocol.render import Response
from ...storage.ticket import Ticket
from ...subscriptions.tickets import ticket_for
from ..control.requests import Actions, Answer
from ..control.routes import OPENAPI
from ..request import Request

_HEADERS: Final = ((CONTENT_TYPE, b"application/json"), (b"cache-control", b"no-cache"))
#: Documents kept, one for each mount of the application. Most applications have one.
_KEPT: Final = 4


class OpenApiRoute:
    """Answers requests for the OpenAPI document. A thread builds it at the first request, because that takes some 50 ms.

    Args:
        root: The stream root.

    Attributes:
        actions: The function for each route and method.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._built: dict[str, bytes] = {}  # by mount
        self.actions: Actions = {(OPENAPI, "GET"): self._document}

    def _document(self, request: Request) -> Answer:
        mount = request.root_path
        if mount in self._built:
            return _answer(self._built[mount])
        return ticket_for(asyncio.to_thread(self._build, mount)).then(_answer)

    def _build(self, mount: str) -> bytes:
        """Returns the encoded document for a mount, and keeps it."""
        from .document import build  # imported here, because a start does not need it

        encoded = msgspec.json.encode(build(self._root, mount))
        if len(self._built) < _KEPT:
            self._built[mount] = encoded
        return encoded


def _answer(encoded: bytes) -> Answer:
    return Ticket.of(Response(200, [*_HEADERS], encoded, is_public=True))
