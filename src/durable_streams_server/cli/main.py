"""`durable-streams-server serve`: arguments in, exit code out.

Exit codes: 0 after a clean stop, 1 when the server fails, 2 for a bad flag or value, 3 when the address cannot be had, 4 when
the data directory cannot be used, 5 when the disk has failed and the store has stopped.
"""

import asyncio
import gc
import logging
import os
import socket
import ssl
import sys
from typing import Any, Final, NoReturn

import click
from click.core import ParameterSource
from click.exceptions import NoArgsIsHelpError

from ..errors import StreamError
from ..http.app import create_app
from ..http.limits.admission import DEFAULT_MAX_CONNECTIONS, Admission
from ..http.options import LONGEST_CACHE_AGE
from ..http.serving.listening import (
    UnixSocket,
    is_loopback,
    listen,
    public_url_of,
    tls_context,
    url_of,
)
from ..http.serving.server import HttpLane, Server
from ..log import Escape
from ..protocol.limits import (
    DEFAULT_BODY_TIMEOUT,
    DEFAULT_LONG_POLL_TIMEOUT,
    DEFAULT_MAX_BODY,
    DEFAULT_MAX_IN_FLIGHT,
    DEFAULT_MAX_UNSENT,
    DEFAULT_PAGE_SIZE,
    DEFAULT_SSE_MAX_AGE,
    MAX_PAGE_SIZE,
    MIN_PAGE_SIZE,
)
from ..protocol.names import DEFAULT_PORT, DEFAULT_STREAM_ROOT
from ..protocol.units import MIB
from ..storage.damage import Damaged
from ..storage.files.directory import DirectoryRefused
from ..storage.files.wal_sizes import DEFAULT_SIZE, MAX_SIZE, MIN_SIZE, size_for
from ..streams.file_store import FileBackedStreamStore
from ..streams.stream_store import StreamStore
from ..subscriptions.addresses import WebhookPolicy
from .allocator import map_large_blocks
from .data import EXIT_DATA, check, inspect
from .file_limit import raise_file_limit
from .keys import keys
from .output import hold_outputs, lost_output, reason, shown
from .values import DIRECTORY, HOST, SECONDS, Size

DEFAULT_DATA_DIR: Final = "./durable-streams-data"
EXIT_FAILED: Final = 1
EXIT_ADDRESS: Final = 3
EXIT_STORE: Final = 5
#: Requests make many objects and hardly a cycle; collecting as often as Python does by default takes a quarter of the time.
#: Yet a collection must be short: one of 50,000 * 20 young objects, as streams are loaded, takes half a second, and one of 5,000 * 3
#: some 10 ms. Nothing that a request leaves needs a full collection, which takes a second in a large server: it is all but never due.
_GC: Final = (5_000, 3, 10_000)
_LARGEST_BODY: Final = 1000 * MIB  # a record of it fits a segment of the largest write-ahead log
_MOST: Final = 1 << 40  # bytes that any limit may be set to: more than any machine has
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class _DefaultGroup(click.Group):
    """A group whose first command is meant when none is named. That command takes flags only, so any other word means a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help", "--version")):
            args.insert(0, "serve")
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs a command, whatever becomes of its outputs."""
        hold_outputs()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NoArgsIsHelpError:
            raise  # a group without its command: it says which there are
        except click.UsageError as error:
            error.ctx = None  # or the usage would be shown above what is wrong
            raise
        finally:
            if ctx.invoked_subcommand != serve.name and (lost := lost_output()):
                _fail(f"what was printed is lost: {reason(lost)}", EXIT_FAILED)


@click.group(cls=_DefaultGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="durable-streams-server")
def main() -> None:
    """A server for the Durable Streams protocol. Without a command it runs `serve`."""


@main.command(
    epilog="Exit codes: 0 after a clean stop, 1 when the server fails, 2 for a bad flag or value, "
    "3 when the address cannot be had, 4 when the data directory cannot be used, "
    "5 when the disk has failed and the store has stopped."
)
@click.option(
    "--host", type=HOST, default="127.0.0.1", show_default=True, help="Address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--uds",
    metavar="PATH",
    help="Unix socket to listen on instead; its mode is 777 less the umask.",
)
@click.option("--tls-cert", metavar="FILE", help="Certificate chain in PEM, to speak HTTPS.")
@click.option("--tls-key", metavar="FILE", help="Its private key in PEM, without a password.")
@click.option(
    "--no-http2",
    is_flag=True,
    help="With TLS, speak HTTP/1.1 only, also to clients that ask for HTTP/2.",
)
@click.option(
    "--data-dir",
    type=DIRECTORY,
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="Directory to keep streams in; made if it is not there.",
)
@click.option(
    "--no-create",
    is_flag=True,
    help="Refuse a data directory without a store, such as a mount that is not mounted.",
)
@click.option("--memory", is_flag=True, help="Keep streams in memory only.")
@click.option(
    "--long-poll-timeout",
    type=SECONDS,
    metavar="SECONDS",
    default=DEFAULT_LONG_POLL_TIMEOUT,
    show_default=True,
    help="How long a long-poll waits for data.",
)
@click.option(
    "--sse-max-age",
    type=SECONDS,
    metavar="SECONDS",
    default=DEFAULT_SSE_MAX_AGE,
    show_default=True,
    help="Longest life of an event stream, whose client then reconnects; a random part of up to 20% is taken off.",
)
@click.option(
    "--page-size",
    type=Size(MIN_PAGE_SIZE, MAX_PAGE_SIZE),
    default=DEFAULT_PAGE_SIZE,
    show_default=True,
    help="Size of one page, such as 64k or 4m; a larger append, or JSON value, is a page alone.",
)
@click.option(
    "--max-body",
    type=Size(1, _LARGEST_BODY),
    default=DEFAULT_MAX_BODY,
    show_default=True,
    help="Bytes of one request body; a larger one is refused with 413.",
)
@click.option(
    "--body-timeout",
    type=SECONDS,
    metavar="SECONDS",
    default=DEFAULT_BODY_TIMEOUT,
    show_default=True,
    help="How long a client may pause within a request body; past it, 408.",
)
@click.option(
    "--max-in-flight",
    type=Size(1, _MOST),
    default=DEFAULT_MAX_IN_FLIGHT,
    show_default=True,
    metavar="BYTES",
    help="Bytes of request bodies held at once, over all connections; past it, 503.",
)
@click.option(
    "--max-unsent",
    type=Size(1, _MOST),
    default=DEFAULT_MAX_UNSENT,
    show_default=True,
    metavar="BYTES",
    help="Bytes held at once for readers that have not taken them; past it, large reads wait and the slowest readers are cut.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Connections open at once; a further one is refused with 503. "
    f"Default: {DEFAULT_MAX_CONNECTIONS}, or as many as leave file handles for the store.",
)
@click.option(
    "--max-connections-per-address",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Connections that one client address, or one /64 network of IPv6, may have open at once; past it, 503. "
    "Behind a proxy all clients share its address: set it to --max-connections there. Default: half of --max-connections.",
)
@click.option(
    "--wal-size",
    type=Size(MIN_SIZE, MAX_SIZE),
    metavar="BYTES",
    help="Bytes of disk that the write-ahead log may take; a sixth of them must take the largest body. "
    f"Default: {DEFAULT_SIZE // MIB}m, or as many as --max-body needs.",
)
@click.option(
    "--cors-origin",
    multiple=True,
    metavar="ORIGIN",
    help="Origin that browsers may call from; may be repeated. '*' (the default) is any, 'none' is none.",
)
@click.option(
    "--shared-cache-age",
    type=click.IntRange(0, LONGEST_CACHE_AGE),
    metavar="SECONDS",
    default=0,
    show_default=True,
    help="How long shared caches, such as a CDN, may keep a page that can still grow; "
    "with 0 every cache asks each time whether its page is current.",
)
@click.option(
    "--stream-root",
    default=DEFAULT_STREAM_ROOT,
    show_default=True,
    help="Path under which __ds is reserved.",
)
@click.option(
    "--public-url",
    metavar="URL",
    help="Where clients reach the server, for webhooks to call back. Default: the address it listens on.",
)
@click.option(
    "--webhook-allow-loopback/--no-webhook-allow-loopback",
    default=None,
    help="Let webhooks go to this machine, also over http. Default: only when listening on loopback.",
)
@click.option(
    "--webhook-allow",
    multiple=True,
    metavar="HOST|NETWORK",
    help="Let webhooks go only there; may be repeated. A network may be a private one.",
)
@click.option(
    "--webhook-deny",
    multiple=True,
    metavar="HOST|NETWORK",
    help="Let no webhook go there; may be repeated.",
)
@click.option(
    "--http",
    type=click.Choice(("native", "asgi")),
    default="native",
    show_default=True,
    help="Answer straight on the socket, or through uvicorn's ASGI.",
)
@click.option("--log-level", type=click.Choice(_LOG_LEVELS), default="warning", show_default=True)
def serve(
    host: str,
    port: int,
    uds: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    no_http2: bool,
    data_dir: str,
    no_create: bool,
    memory: bool,
    long_poll_timeout: float,
    sse_max_age: float,
    page_size: int,
    max_body: int,
    max_in_flight: int,
    max_unsent: int,
    wal_size: int | None,
    body_timeout: float,
    max_connections: int | None,
    max_connections_per_address: int | None,
    cors_origin: tuple[str, ...],
    shared_cache_age: int,
    stream_root: str,
    public_url: str | None,
    webhook_allow_loopback: bool | None,
    webhook_allow: tuple[str, ...],
    webhook_deny: tuple[str, ...],
    http: HttpLane,
    log_level: str,
) -> None:
    """Run the server until it is told to stop (Ctrl-C or SIGTERM).

    On SIGHUP it rotates the keys that it signs webhooks and tokens with. It stops when the terminal that it was started in
    is closed.
    """
    _begin_log(log_level)
    raise_file_limit()
    map_large_blocks()
    tls = _tls(tls_cert, tls_key, http2=not no_http2)
    _refuse_two_addresses(uds)
    _refuse_two_stores(memory)
    if max_body > max_in_flight:
        raise click.UsageError(
            f"--max-body {max_body} is above --max-in-flight {max_in_flight}: such a body could never be taken"
        )
    is_made = not memory and not os.path.lexists(data_dir)
    store = (
        StreamStore() if memory else _open(data_dir, not no_create, _wal_size(wal_size, max_body))
    )
    try:
        app = create_app(
            store=store,
            cors=() if cors_origin == ("none",) else cors_origin or True,
            shared_cache_age=shared_cache_age,
            stream_root=stream_root,
            page_size=page_size,
            long_poll_timeout=long_poll_timeout,
            sse_max_age=sse_max_age,
            max_body=max_body,
            max_in_flight=max_in_flight,
            max_unsent=max_unsent,
            body_timeout=body_timeout,
            public_url=public_url,
            webhook_policy=WebhookPolicy(
                _is_local(host, uds) if webhook_allow_loopback is None else webhook_allow_loopback,
                webhook_allow,
                webhook_deny,
            ),
        )
        admission = Admission(not memory, max_connections, per_address=max_connections_per_address)
        listening = UnixSocket(uds) if uds else listen(host, port)
        if public_url is None:
            app.service.public_url = public_url_of(listening, tls is not None)
    except (ValueError, StreamError) as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        where = f"unix:{uds}" if uds else f"{host} port {port}"
        _fail(f"cannot listen on {where}: {_reason(error)}", EXIT_ADDRESS)
    url = url_of(listening, tls is not None)

    def announce() -> None:
        click.echo(f"Listening on {url}")
        if memory:
            click.echo("Streams are kept in memory and end with this process.")
        else:
            click.echo(f"Streams are kept in {data_dir}")
        if is_made:
            click.echo(f"Made the directory {shown(os.path.abspath(data_dir))}", err=True)

    server = Server(app, log_level, announce, http, tls, admission)
    with listening:
        _run(server, listening)
    if app.engine.failure is not None:
        _fail(f"the store has stopped: {reason(app.engine.failure)}", EXIT_STORE)
    _close(store)


main.add_command(check)
main.add_command(inspect)
main.add_command(keys)


def _begin_log(level: str) -> None:
    """Writes the log to standard error. The filter escapes what other loggers say too, such as uvicorn's and asyncio's."""
    handler = logging.StreamHandler()
    handler.addFilter(Escape())
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        handlers=[handler],
    )


def _tls(certificate: str | None, key: str | None, *, http2: bool) -> ssl.SSLContext | None:
    """Returns what encrypts connections, if that is asked for."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("--tls-cert and --tls-key go together")
    try:
        return tls_context(certificate, key, http2=http2)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _is_local(host: str, uds: str | None) -> bool:
    """Whether only this machine reaches the server. What stands before a Unix socket may let in others."""
    return uds is None and is_loopback(host)


def _refuse_two_addresses(uds: str | None) -> None:
    """Refuses a TCP address beside a Unix socket's."""
    if uds == "":
        raise click.UsageError("--uds needs a path")
    source = click.get_current_context().get_parameter_source
    for name in ("host", "port"):
        if uds and source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--uds and --{name} exclude each other")


def _refuse_two_stores(memory: bool) -> None:
    """Refuses what is about a directory beside a store in memory."""
    context = click.get_current_context()
    for name in ("data_dir", "no_create", "wal_size"):
        if memory and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            flag = name.replace("_", "-")
            raise click.UsageError(f"--memory and --{flag} exclude each other")


def _wal_size(size: int | None, max_body: int) -> int:
    """Returns the size of the write-ahead log: a record of the largest body must fit one of its segments."""
    needed = size_for(max_body + MIB)  # a record is a body and what goes with it
    if size is None:
        size = max(DEFAULT_SIZE, needed)
    if size < needed:
        raise click.UsageError(
            f"--wal-size {size} is too small for --max-body {max_body}: it must be at least {needed}"
        )
    return size


def _open(path: str, create: bool, wal_size: int) -> FileBackedStreamStore:
    """Opens the data directory."""
    try:
        return FileBackedStreamStore(path, create=create, wal_size=wal_size)
    except (DirectoryRefused, Damaged, StreamError, OSError) as error:
        _fail(reason(error), EXIT_DATA)


def _close(store: StreamStore | FileBackedStreamStore) -> None:
    """Closes the store; what its last checkpoint cannot do is said in one line. What was acknowledged is in the log."""
    try:
        store.close()
    except (Damaged, StreamError, OSError) as error:
        _fail(f"the store could not be closed: {reason(error)}", EXIT_STORE)
    if isinstance(store, FileBackedStreamStore) and store.failure is not None:
        _fail(f"the store has stopped: {reason(store.failure)}", EXIT_STORE)


def _reason(error: OSError) -> str:
    """Returns why an address cannot be had, without the address that Python adds to it."""
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return (error.strerror or str(error)).partition(" (while")[0]  # of a name that is not known


def _run(server: Server, listening: socket.socket) -> None:
    try:
        import uvloop
    except ImportError:  # not built for this platform
        factory = None
    else:
        factory = uvloop.new_event_loop
    gc.freeze()  # what there is now stays: no collection need look at it again
    gc.set_threshold(*_GC)
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            runner.run(server.serve(sockets=[listening]))
        except KeyboardInterrupt:
            return
    if not server.started:
        sys.exit(EXIT_FAILED)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"durable-streams-server: {message}", err=True)
    sys.exit(code)
