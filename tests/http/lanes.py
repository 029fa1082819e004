"""Makes one request at a time over either lane, for tests of behaviour that both lanes share."""

from collections.abc import Mapping

from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.native.lane import Lane
from tests.http import asgi_driver
from tests.http.asgi_driver import Answer
from tests.http.socket_driver import Client, parse, request, until


class Caller:
    """Makes requests to an application, through ASGI or over the native lane.

    Args:
        app: the application.
        native: whether to use the native lane.
        peer: the address of the client.
    """

    def __init__(self, app: DurableStreamsApp, native: bool, peer: str = "127.0.0.1") -> None:
        self.app = app
        self._peer = (peer, 1)
        self._lane = Lane(app) if native else None

    async def __call__(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Returns the whole response to one request."""
        headers = headers or {}
        if self._lane is None:
            given = {"client": self._peer}
            return await asgi_driver.request(self.app, method, target, headers, body, **given)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        return await self._send(method, request(method, target, *lines, body=body or None))

    async def without_body(
        self, method: str, target: str, headers: Mapping[str, str], length: int
    ) -> Answer:
        """Sends a request that announces a body of `length` bytes, but nothing of the body. Returns the response.

        Fails if the server waits for the body.
        """
        given = {**headers, "content-length": str(length)}
        if self._lane is None:
            pairs = [
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()
            ]
            exchange = asgi_driver.Exchange(
                self.app, method, target.encode(), pairs, client=self._peer
            )
            return await exchange.answer()
        lines = [f"{name}: {value}" for name, value in given.items()]
        return await self._send(method, request(method, target, *lines))

    async def _send(self, method: str, octets: bytes) -> Answer:
        """Sends octets over the native lane, and returns the response."""
        assert self._lane is not None
        client = Client(self._lane, self._peer)
        client.send(octets)
        received = client.wire.received
        await until(lambda: len(parse(bytes(received), [method])[0]) == 1)
        (answer,) = client.answers(method)
        client.reset()
        return answer
