"""Sends requests to the server of a trial. Each request has a connection of its own, because servers come and go."""

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PATIENCE = 6.0  # seconds; longer than the longest pause of a server


class Reply(NamedTuple):
    """An answer of the server.

    Attributes:
        status: 0 when no answer came.
        offset: the header `Stream-Next-Offset`, or nothing.
    """

    status: int
    offset: str = ""
    body: bytes = b""

    @property
    def document(self) -> dict[str, Any]:
        """The body, if it is a JSON object."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def code(self) -> str:
        """The code of an error."""
        error = self.document.get("error")
        return str(error.get("code", "")) if isinstance(error, dict) else ""


def request(
    base: str,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    media: str = "application/json",
    token: str | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """Sends one request below the stream root at `base`, and returns what came back."""
    if not base:
        return Reply(0)
    parts = urlsplit(base)
    sent = {"content-type": media, "connection": "close", **(headers or {})}
    if token is not None:
        sent["authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        connection.request(method, f"{parts.path}/{path}", body, sent)
        answer = connection.getresponse()
        return Reply(answer.status, answer.getheader("stream-next-offset", ""), answer.read())
    except (OSError, http.client.HTTPException):
        return Reply(0)
    finally:
        connection.close()
