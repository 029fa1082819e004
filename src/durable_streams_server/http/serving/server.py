"""Runs uvicorn's server. On a signal, it drains, then ends all connections, and stops.

A drain lasts some seconds. In this time the server answers every request, says that it is not ready, and ends its live reads one after
the other (`streams/draining.py`). The listening sockets stay open, because a load balancer needs some seconds to notice.
"""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import uvicorn

from ...storage.files.store import FileStore
from ..asgi import http1
from ..asgi.application import DurableStreamsApp
from ..limits.admission import Admission
from ..limits.timeouts import Timeouts
from ..native.connection import connection_factory
from ..native.lane import Lane
from . import alpn
from .accept_errors import AcceptErrors
from .command_socket import CommandSocket
from .finishing import Finish, cut
from .handshake import TlsListener
from .listening import BACKLOG
from .reloading import Reloaders
from .signals import Signals, has_terminal

_KEEP_ALIVE: Final = 75  # seconds, longer than load balancers keep idle connections (TRAPS 52)
#: Seconds in which idle clients may still send a request after the server has begun to stop. Few round trips take longer.
_LAST_REQUESTS: Final = 0.3
_POLL: Final = 0.02  # seconds between two checks of whether all connections have ended
#: Seconds that uvicorn waits for the connections to end. `Finish` aborts them a little earlier.
_GIVE_UP: Final = 2

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
        drain: seconds between SIGTERM and the end of the server. After SIGINT there is no drain, because a person waits.
        commands: the socket on which the server obeys commands, or None.

    Attributes:
        signals: handles the signals of the process. A program may enter this context earlier than the server does, and leave it later.
        reloaders: what the server reads again on SIGHUP.
        must_reload: whether the server reloads right after its start, because a SIGHUP came before.
    """

    def __init__(
        self,
        app: DurableStreamsApp,
        log_level: str = "warning",
        on_started: Callable[[], None] = lambda: None,
        http: HttpLane = "native",
        tls: ssl.SSLContext | None = None,
        admission: Admission | None = None,
        drain: float = 0.0,
        commands: CommandSocket | None = None,
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
        self._drain = drain
        self._commands = commands
        self._end_of_drain: asyncio.TimerHandle | None = None
        self.signals = Signals(self._handle_stop, self._handle_hangup)
        self.reloaders = Reloaders()
        self.must_reload = False
        self._has_terminal = has_terminal()
        self.install_signals = True  # set to False inside a host program

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals while the server runs, unless the host program handles them."""
        if not self.install_signals:
            yield
            return
        with self.signals:
            yield

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
        if self._commands is not None:
            await self._commands.begin()
        if self.started:
            self._on_started()
            if self.must_reload:
                self._on_hangup()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops accepting connections, and lets requests finish."""
        if self._commands is not None:
            self._commands.stop()
        for server in self.servers:
            server.close()
        for listener in self._listeners:
            listener.stop()
        if self.install_signals:
            await self._answer_last_requests()
        await super().shutdown(sockets)

    async def _answer_last_requests(self) -> None:
        """Waits for requests that clients sent before they could know of the stop. Each response then closes its connection.

        If the server closed idle connections at once, such a client could not tell whether its request was executed.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_REQUESTS
        connections = self.server_state.connections
        while connections and loop.time() < until:  # noqa: ASYNC110  # uvicorn's set tells nobody of its changes
            await asyncio.sleep(_POLL)

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Uses another certificate for new connections. Open connections keep theirs."""
        for listener in self._listeners:
            listener.context = tls

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

    def stop(self, drain: float = 0.0) -> None:
        """Begins to stop, so that `serve` returns soon after a drain. Must be called on the event loop.

        Args:
            drain: seconds in which the server still answers requests, and ends its live reads one after the other.
        """
        if self.should_exit:
            return
        if drain <= 0:
            self._stop_now()
        elif self._end_of_drain is None:
            self._app.begin_drain(drain)
            self._retire_connections()
            self._end_of_drain = asyncio.get_running_loop().call_later(drain, self._stop_now)

    def _retire_connections(self) -> None:
        """Ends each connection at some time of the drain after its next response, so that its client may reach another server."""
        drain, loop = self._app.engine.drain, asyncio.get_running_loop()
        for connection in tuple(self.server_state.connections):
            each: Any = connection  # uvicorn's type of its set lists only its own classes
            if each.has_events or drain is None:
                each.retire()  # the event stream is its next response
            else:
                loop.call_later(drain.time_of(each.key), each.retire)

    def _stop_now(self) -> None:
        """Refuses further requests, ends all live reads, and makes uvicorn stop within a tenth of a second."""
        if self._end_of_drain is not None:
            self._end_of_drain.cancel()
        self._app.begin_shutdown()
        self.should_exit = True
        tails = self._app.engine.tails
        Finish(self.server_state.connections, lambda: len(tails))

    def _handle_stop(self, number: int) -> None:
        """Handles the first signal to stop. If the event loop does not run yet, the server stops right after its start."""
        if self._loop is None:
            self.should_exit = True
            return
        drain = self._drain if number == signal.SIGTERM else 0.0
        with contextlib.suppress(RuntimeError):  # the loop is closed, so the server has stopped
            self._loop.call_soon_threadsafe(self.stop, drain)

    def _handle_hangup(self) -> None:
        """Schedules the reaction to a SIGHUP on the event loop, or at the start if the event loop does not run yet."""
        if self._loop is None:
            self.must_reload = True
        elif not self.should_exit:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_hangup)

    def _on_hangup(self) -> None:
        """Reloads what can be reloaded, or stops the server if its terminal is gone."""
        if self._has_terminal and not has_terminal():
            self.stop()
        else:
            self.reloaders.run()

    def _store_failed(self, _: BaseException) -> None:
        """Aborts every connection and stops the server, because nobody can know the outcome of the requests in flight."""
        self.should_exit = True
        cut(self.server_state.connections)
