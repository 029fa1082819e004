"""Sends requests to the server of a trial. Each request opens a new connection, because the server restarts often."""

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

#: Seconds after which a request fails, which is longer than the longest pause of a server.
TIMEOUT = 6.0


class Reply(NamedTuple):
    """The response to a request.

    Attributes:
        status: the HTTP status, or 0 if no response came.
        offset: the value of the header `Stream-Next-Offset`, or empty.
        body: the body of the response.
    """

    status: int
    offset: str = ""
    body: bytes = b""

    @property
    def document(self) -> dict[str, Any]:
        """The body as a JSON object. It is empty if the body is something else."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def code(self) -> str:
        """The error code in the body, or empty."""
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
    """Sends a request to a path below the stream root at `base`, and returns the response."""
    if not base:
        return Reply(0)
    parts = urlsplit(base)
    sent = {"content-type": media, "connection": "close", **(headers or {})}
    if token is not None:
        sent["authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        connection.request(method, f"{parts.path}/{path}", body, sent)
        answer = connection.getresponse()
        return Reply(answer.status, answer.getheader("stream-next-offset", ""), answer.read())
    except (OSError, http.client.HTTPException):
        return Reply(0)
    finally:
        connection.close()
