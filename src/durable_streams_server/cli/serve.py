"""The command `serve`: opens the store, listens, and runs the server until it is told to stop."""

import asyncio
import contextlib
import functools
import gc
import os
import socket
import sys
from typing import Final

import click

from ..errors import StreamError
from ..http.app import create_app
from ..http.asgi.application import DurableStreamsApp
from ..http.limits.admission import Admission
from ..http.serving.addresses import described, listen_on
from ..http.serving.alpn import speaks_http2
from ..http.serving.command_socket import CommandSocket
from ..http.serving.listening import UnixSocket, public_url_of
from ..http.serving.server import Server
from ..http.serving.signals import StartSignals
from ..log import log as _log
from ..storage.damage import Damaged
from ..storage.files.directory import DirectoryRefused
from ..streams.file_store import FileBackedStreamStore
from ..streams.stream_store import StreamStore
from .allocator import map_large_blocks
from .exits import EXIT_ADDRESS, EXIT_DATA, EXIT_FAILED, EXIT_STORE, fail
from .file_limit import raise_file_limit
from .keys import running_commands
from .observing import observing, provider_of
from .output import begin_log, reason, shown
from .reload import add_reloaders
from .settings.loading import Loaded, SettingsCommand
from .settings.settings import Settings

#: Thresholds of the garbage collector. Requests create many objects and hardly any cycles, so collecting as often as Python does by default
#: takes a quarter of the server's time. Yet each collection must be short: while streams are loaded, collecting 50,000 * 20 young objects
#: takes half a second, and collecting 5,000 * 3 takes about 10 ms. A full collection takes a second in a large server, and no garbage of
#: requests needs one, so the last threshold is practically never reached.
_GC: Final = (5_000, 3, 10_000)

_Store = StreamStore | FileBackedStreamStore


@click.command(
    cls=SettingsCommand,
    epilog="Exit codes: 0 after a clean stop, 1 when the server fails, 2 for a bad setting, "
    "3 when the address cannot be had, 4 when the data directory cannot be used, "
    "5 when the disk has failed and the store has stopped, "
    "130 or 143 after SIGINT or SIGTERM during the start, or a second one, which ends the server at once.",
)
def serve(loaded: Loaded) -> None:
    """Run the server until it is told to stop (Ctrl-C or SIGTERM).

    After SIGTERM the server drains (--drain), and then stops. Ctrl-C stops it without a drain. On SIGHUP, it reads its certificate, its tokens
    and its settings file again. It stops when the terminal in which it was started is closed.
    """
    with StartSignals() as start:
        _serve(loaded, start)


def _serve(loaded: Loaded, start: StartSignals) -> None:
    """Opens the store, listens, and runs the server until it stops."""
    settings = loaded.settings
    begin_log(settings.log_level, settings.log_format)
    provider = provider_of(settings)
    raise_file_limit()
    map_large_blocks()
    tls = settings.tls_context()
    is_new = not settings.memory and not os.path.lexists(settings.data_dir)
    store = StreamStore() if settings.memory else _open(settings)
    try:
        app = _create_app(store, settings)
        admission = _admission(loaded)
        listening = _listen(settings)
        if settings.public_url is None:
            app.service.public_url = public_url_of(listening[0], tls is not None)
    except (ValueError, StreamError) as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        where = f"unix:{settings.uds}" if settings.uds else f"{settings.host} port {settings.port}"
        fail(f"cannot listen on {where}: {_address_reason(error)}", EXIT_ADDRESS)
    app.facts.http2 = tls is not None and settings.http2 and speaks_http2()
    announce = functools.partial(_announce, described(listening, tls is not None), settings, is_new)
    commands = None if settings.memory else CommandSocket(settings.data_dir, running_commands(app))
    server = Server(
        app,
        settings.log_level,
        announce,
        settings.http,
        tls,
        admission,
        settings.drain_seconds(),
        commands,
    )
    add_reloaders(server, app, loaded)
    with (
        server.signals
    ):  # until the store is closed, so that a second signal also ends a long last checkpoint
        if start.has_hung_up:
            server.must_reload = True
        with contextlib.ExitStack() as stack:
            for each in listening:
                stack.enter_context(each)
            stack.enter_context(observing(app, settings, provider))
            _run(server, listening)
        if app.engine.failure is not None:
            fail(f"the store has stopped: {reason(app.engine.failure)}", EXIT_STORE)
        _close(store)


def _admission(loaded: Loaded) -> Admission:
    """Returns what decides on new connections.

    Raises:
        click.UsageError: This process may hold too few file handles for so many connections.
    """
    settings = loaded.settings
    try:
        return Admission(
            not settings.memory,
            settings.max_connections,
            per_address=settings.max_connections_per_address,
            proxies=settings.trusted_proxies(),
        )
    except ValueError as error:
        label = loaded.sources.label("max_connections")
        raise click.UsageError(f"{label} {str(error).removeprefix('max_connections ')}") from None


def _listen(settings: Settings) -> list[socket.socket]:
    """Returns the listening sockets: a Unix socket, or those of all addresses of a host."""
    if settings.uds:
        return [UnixSocket(settings.uds)]
    return listen_on(settings.host, settings.port)


def _open(settings: Settings) -> FileBackedStreamStore:
    """Opens the data directory. If that fails, prints the reason and exits."""
    wal_size = settings.wal_size_for_body()
    try:
        return FileBackedStreamStore(settings.data_dir, create=settings.create, wal_size=wal_size)
    except (DirectoryRefused, Damaged, StreamError, OSError) as error:
        fail(reason(error), EXIT_DATA)


def _create_app(store: _Store, settings: Settings) -> DurableStreamsApp:
    """Returns the application that `settings` describe.

    Raises:
        ValueError: A setting is out of range, or a file of tokens or keys is broken.
        StreamError: The stream root is not a path.
    """
    return create_app(
        store=store,
        cors=settings.cors_origins(),
        shared_cache_age=settings.shared_cache_age,
        stream_root=settings.stream_root,
        page_size=settings.page_size,
        long_poll_timeout=settings.long_poll_timeout,
        sse_max_age=settings.sse_max_age,
        max_body=settings.max_body,
        max_in_flight=settings.max_in_flight,
        max_unsent=settings.max_unsent,
        max_streams=settings.max_streams,
        max_stream_bytes=settings.max_stream_bytes,
        max_total_bytes=settings.max_total_bytes,
        body_timeout=settings.body_timeout,
        public_url=settings.public_url,
        webhook_policy=settings.webhook_policy(),
        limits=settings.client_limits(),
        access=settings.access_control(),
    )


def _announce(addresses: str, settings: Settings, is_new: bool) -> None:
    """Prints the server's addresses and where streams are kept, and logs the data directory if the server has created it."""
    click.echo(f"Listening on {addresses}")
    if settings.memory:
        click.echo("Streams are kept in memory and end with this process.")
    else:
        click.echo(f"Streams are kept in {settings.data_dir}")
    if is_new:
        _log.warning("made the directory %s", shown(os.path.abspath(settings.data_dir)))


def _address_reason(error: OSError) -> str:
    """Returns why an address cannot be listened on, without the address that Python adds to the text."""
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    # If a host name is unknown, Python adds " (while …".
    return (error.strerror or str(error)).partition(" (while")[0]


def _run(server: Server, listening: list[socket.socket]) -> None:
    """Runs the server on a new event loop, that of uvloop if it is installed. Exits if the server did not start."""
    try:
        import uvloop
    except ImportError:  # not built for this platform
        factory = None
    else:
        factory = uvloop.new_event_loop
    gc.freeze()  # so that no collection traverses the objects that exist now
    gc.set_threshold(*_GC)
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            runner.run(server.serve(sockets=listening))
        except SystemExit:  # uvicorn exits with a code of its own if the application does not start
            sys.exit(EXIT_FAILED)
    if not server.started:
        sys.exit(EXIT_FAILED)


def _close(store: _Store) -> None:
    """Closes the store. If its last checkpoint fails, prints why and exits; acknowledged data is safe in the write-ahead log."""
    try:
        store.close()
    except (Damaged, StreamError, OSError) as error:
        fail(f"the store could not be closed: {reason(error)}", EXIT_STORE)
    if isinstance(store, FileBackedStreamStore) and store.failure is not None:
        fail(f"the store has stopped: {reason(store.failure)}", EXIT_STORE)
