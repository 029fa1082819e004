"""Runs uvicorn's server, and begins to drain connections the moment a stop is requested."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, Literal

import uvicorn

from ...log import log as _log
from ...protocol.signing import Key
from ...storage.files.store import FileStore
from ...storage.ticket import Abandoned, Ticket
from ..asgi import http1
from ..asgi.application import DurableStreamsApp
from ..limits.admission import Admission
from ..limits.timeouts import Timeouts
from ..native.connection import connection_factory
from ..native.lane import Lane
from . import alpn
from .accept_errors import AcceptErrors
from .handshake import TlsListener
from .listening import BACKLOG

_KEEP_ALIVE: Final = 75  # seconds, longer than load balancers keep idle connections (TRAPS 52)
_DRAIN: Final = (
    0.4  # seconds, after which only stalled clients are left, because live reads end at once
)
_GIVE_UP: Final = 1  # seconds that uvicorn waits for other work, such as a TLS handshake

#: Whether the event loop accepts TLS connections itself. Windows' loop has no `add_reader`, which `TlsListener` needs.
_LOOP_ACCEPTS: Final = os.name == "nt"

HttpLane = Literal["native", "asgi"]


class Server(uvicorn.Server):
    """A uvicorn server that tells its application at once that it is stopping.

    Args:
        app: the application to serve.
        log_level: level of uvicorn's log.
        on_started: called once the server answers requests and handles signals.
        http: `native` answers requests straight on the socket. `asgi` answers them through uvicorn's ASGI, as any other host would.
            An application with a guard is always served through ASGI.
        tls: the certificate and the settings of TLS, from `tls_context`. None serves plain HTTP.
        admission: decides on new connections. The default limits them by the file handles of the process.
    """

    def __init__(
        self,
        app: DurableStreamsApp,
        log_level: str = "warning",
        on_started: Callable[[], None] = lambda: None,
        http: HttpLane = "native",
        tls: ssl.SSLContext | None = None,
        admission: Admission | None = None,
    ) -> None:
        timeouts = Timeouts(idle=_KEEP_ALIVE, body=app.body_timeout)
        admission = admission or Admission(on_files=isinstance(app.engine.store, FileStore))
        lane = Lane(app, timeouts, admission) if http == "native" and app.guard is None else None
        if lane is not None:
            protocol: Any = connection_factory(lane)
        else:
            protocol = http1.protocol_of(app, timeouts, admission)
        if tls is not None and alpn.speaks_http2():
            from ..asgi import http2  # imported here, because its parser may not be installed

            protocol = alpn.choosing_factory(
                protocol, http2.protocol_of(app, timeouts, admission, lane)
            )
        config = uvicorn.Config(
            app,
            http=protocol,
            log_level=log_level,
            access_log=False,
            lifespan="on",
            server_header=False,
            proxy_headers=False,  # because the connections read the headers of trusted proxies
            timeout_keep_alive=_KEEP_ALIVE,
            backlog=BACKLOG,
            log_config=None,
            ssl_context_factory=(lambda *_: tls) if tls is not None and _LOOP_ACCEPTS else None,
            timeout_graceful_shutdown=_GIVE_UP,
        )
        super().__init__(config)
        app.signals = None  # because this server calls `begin_shutdown` itself
        app.limits.add(
            "connections",
            lambda: admission.max_connections,
            lambda: len(self.server_state.connections) + admission.streams,
        )
        self._app = app
        self._tls = tls
        self._admission = admission
        self._listeners: list[TlsListener] = []
        self._on_started = on_started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_terminal = _has_terminal()
        self.install_signals = True  # set to False inside a host program

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals while the server runs, unless the host program handles them."""
        if not self.install_signals:
            yield
            return
        with super().capture_signals(), self._capture_hangup():
            yield
            self._captured_signals.clear()  # so that uvicorn does not raise them again, and a clean stop exits with 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept connections."""
        self._loop = asyncio.get_running_loop()
        self._app.engine.on_failure = self._store_failed
        if self.install_signals:
            self._loop.set_exception_handler(AcceptErrors())
        if self._tls is None or _LOOP_ACCEPTS:
            await super().startup(sockets)
        elif sockets is None:
            raise ValueError("a server with TLS needs its listening sockets")
        else:
            await super().startup([])
            self._listeners = [self._listen(each, self._tls) for each in sockets]
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops accepting connections, and lets requests finish."""
        for listener in self._listeners:
            listener.stop()
        await super().shutdown(sockets)

    def _listen(self, listening: socket.socket, tls: ssl.SSLContext) -> TlsListener:
        """Begins to accept TLS connections on a listening socket, and returns their listener."""

        def connect() -> asyncio.BaseProtocol:
            made: asyncio.BaseProtocol = (
                self.config.http_protocol_class(  # called as uvicorn calls it
                    config=self.config,  # type: ignore[call-arg]  # mypy sees the constructor of asyncio.Protocol
                    server_state=self.server_state,
                    app_state=self.lifespan.state,
                )
            )
            return made

        connections = self.server_state.connections
        listener = TlsListener(listening, tls, connect, self._admission, connections)
        listener.begin()
        return listener

    def stop(self) -> None:
        """Begins to stop, so that `serve` returns soon. Must be called on the event loop."""
        self._app.begin_shutdown()
        self.should_exit = True
        asyncio.get_running_loop().call_later(_DRAIN, self._cut_stragglers)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles SIGINT and SIGTERM. The first one begins a drain, and a second SIGINT ends the server at once."""
        if self._loop is not None and not self.should_exit:
            self._loop.call_soon_threadsafe(
                self.stop
            )  # because a signal handler may interrupt any line of Python
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def _capture_hangup(self) -> Iterator[None]:
        """Handles SIGHUP while the server runs, on platforms that have this signal."""
        if (
            not hasattr(signal, "SIGHUP")
            or threading.current_thread() is not threading.main_thread()
        ):
            yield
            return
        before = signal.signal(signal.SIGHUP, self._handle_hangup)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def _handle_hangup(self, *_: object) -> None:
        """Schedules the reaction to a SIGHUP on the event loop."""
        if self._loop is not None and not self.should_exit:
            self._loop.call_soon_threadsafe(self._on_hangup)

    def _on_hangup(self) -> None:
        """Rotates the signing keys, or stops the server if its terminal is gone."""
        if self._has_terminal and not _has_terminal():
            self.stop()
        elif self._app.engine.failure is None:
            self._app.service.credentials.rotate().add_callback(_log_rotation)

    def _store_failed(self, _: BaseException) -> None:
        """Aborts every connection and stops the server, because nobody can know the outcome of the requests in flight."""
        self.should_exit = True
        self._cut_stragglers()

    def _cut_stragglers(self) -> None:
        """Aborts the connections that are left, because a stopping server never waits for slow clients."""
        for connection in tuple(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


def _log_rotation(rotated: Ticket[tuple[Key, ...]]) -> None:
    """Logs the outcome of a key rotation, at a level that is shown by default, because an operator asked for the rotation."""
    try:
        kid = rotated.result()[0].kid
    except Abandoned:
        return  # the store has stopped and logs that itself
    except Exception as error:
        _log.error("the keys could not be rotated: %s", error)
    else:
        _log.warning("the keys are rotated: %s signs from now on", kid)


def _has_terminal() -> bool:
    """Returns whether the process's standard input is a terminal."""
    try:
        return os.isatty(0)
    except OSError:
        return False
