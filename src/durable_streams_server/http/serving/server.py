"""The process side of serving: uvicorn keeps the sockets, this starts the drain the moment a stop is asked for."""

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
from ..limits.admission import AcceptErrors, Admission
from ..limits.timeouts import Timeouts
from ..native.connection import connection_factory
from ..native.lane import Lane
from . import alpn
from .handshake import TlsListener
from .listening import BACKLOG

_KEEP_ALIVE: Final = 75  # seconds; longer than load balancers keep idle connections (TRAPS 52)
_DRAIN: Final = 0.4  # seconds; live reads end at once, so only stalled peers are left by then
_GIVE_UP: Final = 1  # seconds; for what no connection stands for yet, such as a TLS handshake that is not complete

#: Whether the loop accepts TLS connections itself: the one of Windows tells nobody that a socket is ready.
_LOOP_ACCEPTS: Final = os.name == "nt"

HttpLane = Literal["native", "asgi"]


class Server(uvicorn.Server):
    """A uvicorn server whose application is told at once that it is to stop.

    Args:
        app: what it serves.
        log_level: of the server's own log.
        on_started: called once requests are answered and signals are handled.
        http: `native` answers straight on the socket; `asgi` goes through uvicorn's ASGI, as in any other host, and so does an
            application with a guard.
        tls: what encrypts connections, from `tls_context`; None for plain HTTP.
        admission: decides on new connections; by the handles that the process may hold if not given.
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
            from ..asgi import http2  # where its parser is not installed, nobody is offered HTTP/2

            protocol = alpn.choosing(protocol, http2.protocol_of(app, timeouts, admission, lane))
        config = uvicorn.Config(
            app,
            http=protocol,
            log_level=log_level,
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            backlog=BACKLOG,
            log_config=None,
            ssl_context_factory=(lambda *_: tls) if tls is not None and _LOOP_ACCEPTS else None,
            timeout_graceful_shutdown=_GIVE_UP,
        )
        super().__init__(config)
        app.signals = None  # this server tells it
        self._app = app
        self._tls = tls
        self._admission = admission
        self._listeners: list[TlsListener] = []
        self._on_started = on_started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_terminal = _has_terminal()
        self.install_signals = True  # not so inside somebody else's program

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals while serving, unless the host program does."""
        if not self.install_signals:
            yield
            return
        with super().capture_signals(), self._capture_hangup():
            yield
            self._captured_signals.clear()  # or they would be raised again: a clean stop exits with 0

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until it is told to stop."""
        if any(_is_unix(each) for each in sockets or ()):
            self.config.forwarded_allow_ips = "*"  # who reaches it is on this machine
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
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
        """Accepts no more, and lets requests finish."""
        for listener in self._listeners:
            listener.stop()
        await super().shutdown(sockets)

    def _listen(self, listening: socket.socket, tls: ssl.SSLContext) -> TlsListener:
        """Begins to accept connections with TLS."""

        def connect() -> asyncio.BaseProtocol:
            made: asyncio.BaseProtocol = self.config.http_protocol_class(  # as uvicorn does
                config=self.config,  # type: ignore[call-arg]
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )
            return made

        connections = self.server_state.connections
        listener = TlsListener(listening, tls, connect, self._admission, connections)
        listener.begin()
        return listener

    def stop(self) -> None:
        """Begins to stop; `serve` returns soon after. Called on the loop."""
        self._app.begin_shutdown()
        self.should_exit = True
        asyncio.get_running_loop().call_later(_DRAIN, self._cut_stragglers)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes SIGINT and SIGTERM: the first drains, a second interrupt goes at once."""
        if self._loop is not None and not self.should_exit:
            self._loop.call_soon_threadsafe(self.stop)  # a signal comes in the middle of anything
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def _capture_hangup(self) -> Iterator[None]:
        """Handles SIGHUP, where there is one."""
        if (
            not hasattr(signal, "SIGHUP")
            or threading.current_thread() is not threading.main_thread()
        ):
            yield
            return
        before = signal.signal(signal.SIGHUP, self._take_hangup)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def _take_hangup(self, *_: object) -> None:
        if self._loop is not None and not self.should_exit:
            self._loop.call_soon_threadsafe(self._hung_up)

    def _hung_up(self) -> None:
        """An operator wants other keys; or the terminal that the server was started in is gone, and it goes with it."""
        if self._has_terminal and not _has_terminal():
            self.stop()
        elif self._app.engine.failure is None:
            self._app.service.credentials.rotate().add_callback(_tell_of_keys)

    def _store_failed(self, _: BaseException) -> None:
        """Cuts every connection and ends: nobody can know what became of the requests in flight."""
        self.should_exit = True
        self._cut_stragglers()

    def _cut_stragglers(self) -> None:
        """Cuts who has not taken the end of their response: a drain never waits for a reader."""
        for connection in tuple(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


def _tell_of_keys(rotated: Ticket[tuple[Key, ...]]) -> None:
    """Says what became of a rotation, at a level that is shown by default: somebody has asked for it."""
    try:
        kid = rotated.result()[0].kid
    except Abandoned:
        return  # the store has stopped, and says so itself
    except Exception as error:
        _log.error("the keys could not be rotated: %s", error)
    else:
        _log.warning("the keys are rotated: %s signs from now on", kid)


def _has_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False


def _is_unix(listening: socket.socket) -> bool:
    return listening.family == getattr(socket, "AF_UNIX", None)
