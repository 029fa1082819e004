"""HTTP/2 clients: a well-behaved one for a real server, one that sends single frames, and one that needs no socket."""

import contextlib
import os
import socket
import ssl
import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, cast

import h2.config
import h2.connection
import h2.events
import httpx
import uvicorn
from uvicorn.server import ServerState

from durable_streams_server import DurableStreamsApp, StreamStore, create_app
from durable_streams_server.http.asgi.http2 import Http2Connection, protocol_of
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.timeouts import Timeouts
from tests.http.certificates import Certificate
from tests.http.socket_driver import Wire, until
from tests.prefork import ForkedProcess
from tests.process import ServerProcess

A = "/v1/stream/a"


TEXT = {"content-type": "text/plain"}


def tls_flags(certificate: Certificate) -> tuple[str, ...]:
    """Returns the flags of a server in memory that speaks HTTPS."""
    return ("--memory", "--tls-cert", certificate.chain, "--tls-key", certificate.key)


def trusting(certificate: Certificate) -> ssl.SSLContext:
    """Returns the TLS context of a client that trusts a certificate."""
    return ssl.create_default_context(cafile=certificate.chain)


def http2_client(
    server: ServerProcess, certificate: Certificate, **given: Any
) -> httpx.AsyncClient:
    """Returns a client that speaks HTTP/2 only."""
    return httpx.AsyncClient(
        base_url=server.url, verify=trusting(certificate), http1=False, http2=True, **given
    )


def memory_of(process: subprocess.Popen[str] | ForkedProcess) -> int:
    """Returns the bytes of memory that a process uses."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class RawClient:
    """An HTTP/2 client over TLS that sends only what a test asks for. It never enlarges a window and answers no frame by itself."""

    def __init__(self, server: ServerProcess, certificate: Certificate) -> None:
        host, port = server.url.removeprefix("https://").split(":")
        context = trusting(certificate)
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((host, int(port)), timeout=10)
        self.socket = context.wrap_socket(plain, server_hostname=host)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.received: deque[h2.events.Event] = deque()
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Sends the frames that h2 has prepared."""
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, method: str, path: str, *more: tuple[str, str], ends: bool = True) -> int:
        """Starts a request and returns its stream."""
        stream = int(self.h2.get_next_available_stream_id())
        head = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
        ]
        self.h2.send_headers(stream, [*head, *more], end_stream=ends)
        return stream

    def events(self) -> Iterator[h2.events.Event]:
        """Yields the events that the server sends, until the server closes the connection."""
        while True:
            while self.received:
                yield self.received.popleft()
            data = self.socket.recv(65536)
            if not data:
                return
            self.received += self.h2.receive_data(data)

    def answer(self) -> str:
        """Waits for the next response and returns its status."""
        for event in self.events():
            if isinstance(event, h2.events.ResponseReceived):
                return dict(event.headers)[b":status"].decode()
        raise AssertionError("the server has closed the connection")

    def until_closed(self) -> None:
        """Reads until the server closes the connection."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while self.socket.recv(65536):
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class WireClient:
    """A client of a server's HTTP/2 connection, connected without a socket.

    Attributes:
        server: The connection.
        wire: The transport between the two.
        seen: The events that the client has received.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        admission: Admission | None = None,
        app: DurableStreamsApp | None = None,
        peer: str = "127.0.0.1",
    ) -> None:
        self.store = StreamStore()
        self.store.create(A, "text/plain")
        self.app = app or create_app(store=self.store)
        config = uvicorn.Config(self.app, lifespan="off", log_config=None, proxy_headers=False)
        config.load()
        self.admission = admission or Admission(True, 10, limit=1024)
        connect = protocol_of(self.app, timeouts, self.admission)
        self.server: Http2Connection = connect(
            config=config, server_state=ServerState(), app_state={}
        )
        self.wire = Wire((peer, 1), True)
        self.wire.connection = cast(Any, self.server)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.seen: list[h2.events.Event] = []
        self.server.connection_made(self.wire)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(
            1 << 30
        )  # the window of the connection; each stream has its own
        self.flush()

    def flush(self) -> None:
        """Sends the frames that h2 has prepared."""
        self.wire.give(self.h2.data_to_send())

    def ask(self, path: str, *more: tuple[str, str], method: str = "GET", body: bytes = b"") -> int:
        """Sends a request and returns its stream."""
        stream = int(self.h2.get_next_available_stream_id())
        head = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
        ]
        self.h2.send_headers(stream, [*head, *more], end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()
        return stream

    async def saw(self, kind: type[h2.events.Event]) -> Any:
        """Waits for an event of a kind and returns the first one."""

        def found() -> bool:
            received, self.wire.received = bytes(self.wire.received), bytearray()
            self.seen += self.h2.receive_data(received)
            return any(isinstance(event, kind) for event in self.seen)

        await until(found)
        return next(event for event in self.seen if isinstance(event, kind))
