"""A client of uvicorn's HTTP/1.1 connection that needs no socket."""

from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from durable_streams_server import DurableStreamsApp, StreamStore, create_app
from durable_streams_server.http.asgi.http1 import Http1Connection, protocol_of
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.timeouts import Timeouts
from tests.http.asgi_driver import Answer
from tests.http.socket_driver import Wire, parse, until

A = "/v1/stream/a"


class AsgiClient:
    """A client of an HTTP/1.1 connection of the ASGI lane, connected without a socket.

    Args:
        timeouts: How long the client may take for each phase.
        most: Maximum connections of the server.
        state: The state of the server, which clients may share.
        app: The application. By default, one with an empty stream at `/v1/stream/a`.
        admission: Decides on new connections. Clients may share it.
        peer: The client's address.
        root_path: The root path that uvicorn is configured with.

    Attributes:
        connection: The server's connection.
        wire: The transport between the two.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        most: int = 10,
        state: ServerState | None = None,
        app: DurableStreamsApp | None = None,
        admission: Admission | None = None,
        peer: tuple[str, int] = ("127.0.0.1", 1),
        root_path: str = "",
    ) -> None:
        if app is None:
            store = StreamStore()
            store.create(A, "text/plain")
            app = create_app(store=store, long_poll_timeout=0.3)
        self.app = app
        config = uvicorn.Config(
            self.app,
            lifespan="off",
            log_config=None,
            root_path=root_path,
            proxy_headers=False,  # as `Server` does
        )
        config.load()
        self.admission = admission or Admission(True, most, limit=1024)
        connect = protocol_of(self.app, timeouts, self.admission)
        self.state = state or ServerState()
        self.connection: Http1Connection = connect(
            config=config, server_state=self.state, app_state={}
        )
        self.wire = Wire(peer, False)
        self.wire.connection = cast(Any, self.connection)
        self.connection.connection_made(self.wire)

    async def answers(self, *methods: str) -> list[Answer]:
        """Waits for the responses to requests with these methods and returns them."""
        await until(lambda: len(parse(bytes(self.wire.received), methods)[0]) == len(methods))
        found, rest = parse(bytes(self.wire.received), methods)
        assert rest == b""
        self.wire.received.clear()
        return found
