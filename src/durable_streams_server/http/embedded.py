"""`DurableStreamTestServer`: a complete server inside a program or a test, on a real socket."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from types import NoneType, TracebackType
from typing import Self, TypedDict, Unpack

from ..protocol.arguments import require
from ..protocol.cursor import CursorOptions
from ..storage.store import Store
from ..streams.embedded import Streams
from ..streams.hooks import RegistryHook, StreamLifecycleHook
from ..streams.stream_store import StreamStore
from ..subscriptions.addresses import WebhookPolicy
from .app import create_app
from .asgi.application import DurableStreamsApp
from .gate.access_control import AccessControl
from .guard import Guard
from .limits.client_limits import ClientLimits
from .serving.listening import is_loopback, listen, public_url_of, url_of
from .serving.server import Server


class TestServerOptions(TypedDict, total=False):
    """The options of `DurableStreamTestServer` besides port, host and store. `create_app` documents each of them."""

    hooks: Sequence[StreamLifecycleHook | RegistryHook]
    cors: bool | Sequence[str]
    shared_cache_age: int
    cursor_options: CursorOptions | None
    stream_root: str
    page_size: int
    long_poll_timeout: float
    sse_max_age: float
    max_body: int
    max_in_flight: int
    max_unsent: int
    max_streams: int | None
    max_stream_bytes: int | None
    max_total_bytes: int | None
    body_timeout: float
    compression: bool
    public_url: str | None
    webhook_policy: WebhookPolicy | None
    guard: Guard | None
    access: AccessControl
    read_only: bool
    limits: ClientLimits | None


class DurableStreamTestServer:
    """A server that listens on a socket while its `with` block runs.

    With `async with`, or `start` and `stop`, the server runs on the caller's event loop. With plain `with` it runs on a thread.

    Args:
        port: The port to listen on; 0 picks a free one.
        host: The address to listen on.
        store: Where streams are kept; a new `StreamStore` if not given.
        options: Options of `create_app`. Unlike there, `cors` is True by default, so scripts of any origin may call. A server on loopback
            without `access` and `guard` answers only to names of this machine, so that no page can reach it under another name.
    """

    __test__ = False  # pytest would collect the class because of its name

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        store: Store | None = None,
        **options: Unpack[TestServerOptions],
    ) -> None:
        require(int, port=port)
        require(str, host=host)
        require((Store, NoneType), store=store)
        self._asked = (host, port)
        options.setdefault("cors", True)
        options.setdefault("webhook_policy", WebhookPolicy(allow_loopback=is_loopback(host)))
        if is_loopback(host) and options.get("guard") is None:
            options.setdefault("access", AccessControl(allowed_hosts=()))
        self._options = options
        self.store = store if store is not None else StreamStore()
        self.app: DurableStreamsApp = create_app(store=self.store, **options)
        self._socket: socket.socket | None = None
        self._server: Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop of `_thread`

    @property
    def port(self) -> int:
        """The port that the server listens on.

        Raises:
            RuntimeError: The server is not running.
        """
        return int(self._listening().getsockname()[1])

    @property
    def base_url(self) -> str:
        """The URL of the server, such as `http://127.0.0.1:4437`.

        Raises:
            RuntimeError: The server is not running.
        """
        return url_of(self._listening())

    @property
    def streams(self) -> Streams:
        """The server's streams, for a program that runs the server on its own event loop (`async with`)."""
        return self.app.streams

    async def start(self) -> None:
        """Starts the server, and returns once it answers requests.

        Raises:
            OSError: The address cannot be listened on.
            RuntimeError: The server is already running, or its streams are in use on another event loop.
        """
        if self._server is not None:
            raise RuntimeError("the server is already running")
        listening = listen(*self._asked)
        try:
            self.app.begin()
        except RuntimeError:
            listening.close()
            raise
        self._socket = listening
        if self._options.get("public_url") is None:
            self.app.service.public_url = public_url_of(self._socket)
        started = asyncio.Event()
        self._server = Server(self.app, on_started=started.set)
        self._server.install_signals = False
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        waiting = asyncio.create_task(started.wait())
        try:
            await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not started.is_set():
            await self._task
            raise RuntimeError("the server did not start")

    async def stop(self) -> None:
        """Ends live reads, waits for running requests, and closes the socket. Does nothing if the server is not running."""
        if self._server is None or self._task is None or self._socket is None:
            return
        self._server.stop()
        try:
            await self._task
        finally:
            self._socket.close()
            self._server = self._task = self._socket = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        started: threading.Event = threading.Event()
        failure: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._run, args=(started, failure), name="durable-streams", daemon=True
        )
        self._thread.start()
        started.wait()
        if failure:
            self._thread.join()
            raise failure[0]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._server.stop)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, started: threading.Event, failure: list[BaseException]) -> None:
        """Runs the server on a new event loop until it is stopped.

        Args:
            started: Set once the server answers requests or could not start.
            failure: Receives the exception if the server could not start.
        """

        async def serve() -> None:
            try:
                await self.start()
                self._loop = asyncio.get_running_loop()
            except BaseException as error:
                failure.append(error)
                return
            finally:
                started.set()
            if self._task is not None:
                await asyncio.wait([self._task])
            await self.stop()

        asyncio.run(serve())

    def _listening(self) -> socket.socket:
        """Returns the listening socket.

        Raises:
            RuntimeError: The server is not running.
        """
        if self._socket is None:
            raise RuntimeError("the server is not running")
        return self._socket
