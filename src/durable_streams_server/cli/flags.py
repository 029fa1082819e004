"""The flags of `serve`: their definitions, their values, and the checks of flags that depend on each other."""

import dataclasses
import ssl
from collections.abc import Callable
from typing import Final

import click
from click.core import ParameterSource

from ..http.limits.admission import DEFAULT_MAX_CONNECTIONS
from ..http.options import LONGEST_CACHE_AGE
from ..http.serving.listening import is_loopback, tls_context
from ..http.serving.server import HttpLane
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
from ..storage.files.wal_sizes import DEFAULT_SIZE, MAX_SIZE, MIN_SIZE, size_for
from .values import DIRECTORY, HOST, SECONDS, Size

DEFAULT_DATA_DIR: Final = "./durable-streams-data"
#: Maximum value of `--max-body`, because a record of such a body must fit a segment of the largest write-ahead log.
_LARGEST_BODY: Final = 1000 * MIB
#: Maximum value of other limits, in bytes. No machine has more memory.
_LARGEST_LIMIT: Final = 1 << 40
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_LISTENING: Final = (
    click.option(
        "--host", type=HOST, default="127.0.0.1", show_default=True, help="Address to listen on."
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=DEFAULT_PORT,
        show_default=True,
        help="Port to listen on; 0 picks a free one.",
    ),
    click.option(
        "--uds",
        metavar="PATH",
        help="Unix socket to listen on instead; its mode is 777 less the umask.",
    ),
    click.option("--tls-cert", metavar="FILE", help="Certificate chain in PEM, to speak HTTPS."),
    click.option("--tls-key", metavar="FILE", help="Its private key in PEM, without a password."),
    click.option(
        "--no-http2",
        is_flag=True,
        help="With TLS, speak HTTP/1.1 only, also to clients that ask for HTTP/2.",
    ),
)
_STORAGE: Final = (
    click.option(
        "--data-dir",
        type=DIRECTORY,
        default=DEFAULT_DATA_DIR,
        show_default=True,
        help="Directory to keep streams in; made if it is not there.",
    ),
    click.option(
        "--no-create",
        is_flag=True,
        help="Refuse a data directory without a store, such as a mount that is not mounted.",
    ),
    click.option("--memory", is_flag=True, help="Keep streams in memory only."),
)
_READS: Final = (
    click.option(
        "--long-poll-timeout",
        type=SECONDS,
        metavar="SECONDS",
        default=DEFAULT_LONG_POLL_TIMEOUT,
        show_default=True,
        help="How long a long-poll waits for data.",
    ),
    click.option(
        "--sse-max-age",
        type=SECONDS,
        metavar="SECONDS",
        default=DEFAULT_SSE_MAX_AGE,
        show_default=True,
        help="Longest life of an event stream, whose client then reconnects; a random part of up to 20% is taken off.",
    ),
    click.option(
        "--page-size",
        type=Size(MIN_PAGE_SIZE, MAX_PAGE_SIZE),
        default=DEFAULT_PAGE_SIZE,
        show_default=True,
        help="Size of one page, such as 64k or 4m; a larger append, or JSON value, is a page alone.",
    ),
)
_LIMITS: Final = (
    click.option(
        "--max-body",
        type=Size(1, _LARGEST_BODY),
        default=DEFAULT_MAX_BODY,
        show_default=True,
        help="Bytes of one request body; a larger one is refused with 413.",
    ),
    click.option(
        "--body-timeout",
        type=SECONDS,
        metavar="SECONDS",
        default=DEFAULT_BODY_TIMEOUT,
        show_default=True,
        help="How long a client may pause within a request body; past it, 408.",
    ),
    click.option(
        "--max-in-flight",
        type=Size(1, _LARGEST_LIMIT),
        default=DEFAULT_MAX_IN_FLIGHT,
        show_default=True,
        metavar="BYTES",
        help="Bytes of request bodies held at once, over all connections; past it, 503.",
    ),
    click.option(
        "--max-unsent",
        type=Size(1, _LARGEST_LIMIT),
        default=DEFAULT_MAX_UNSENT,
        show_default=True,
        metavar="BYTES",
        help="Bytes held at once for readers that have not taken them; past it, large reads wait and the slowest readers are cut.",
    ),
    click.option(
        "--max-connections",
        type=click.IntRange(min=1),
        metavar="COUNT",
        help="Connections open at once; a further one is refused with 503. "
        f"Default: {DEFAULT_MAX_CONNECTIONS}, or as many as leave file handles for the store.",
    ),
    click.option(
        "--max-connections-per-address",
        type=click.IntRange(min=1),
        metavar="COUNT",
        help="Connections that one client address, or one /64 network of IPv6, may have open at once; past it, 503. "
        "Behind a proxy all clients share its address: set it to --max-connections there. Default: half of --max-connections.",
    ),
    click.option(
        "--wal-size",
        type=Size(MIN_SIZE, MAX_SIZE),
        metavar="BYTES",
        help="Bytes of disk that the write-ahead log may take; a sixth of them must take the largest body. "
        f"Default: {DEFAULT_SIZE // MIB}m, or as many as --max-body needs.",
    ),
)
_BROWSERS: Final = (
    click.option(
        "--cors-origin",
        multiple=True,
        metavar="ORIGIN",
        help="Origin that browsers may call from; may be repeated. '*' (the default) is any, 'none' is none.",
    ),
    click.option(
        "--shared-cache-age",
        type=click.IntRange(0, LONGEST_CACHE_AGE),
        metavar="SECONDS",
        default=0,
        show_default=True,
        help="How long shared caches, such as a CDN, may keep a page that can still grow; "
        "with 0 every cache asks each time whether its page is current.",
    ),
)
_STREAMS: Final = (
    click.option(
        "--stream-root",
        default=DEFAULT_STREAM_ROOT,
        show_default=True,
        help="Path under which __ds is reserved.",
    ),
)
_WEBHOOKS: Final = (
    click.option(
        "--public-url",
        metavar="URL",
        help="Where clients reach the server, for webhooks to call back. Default: the address it listens on.",
    ),
    click.option(
        "--webhook-allow-loopback/--no-webhook-allow-loopback",
        default=None,
        help="Let webhooks go to this machine, also over http. Default: only when listening on loopback.",
    ),
    click.option(
        "--webhook-allow",
        multiple=True,
        metavar="HOST|NETWORK",
        help="Let webhooks go only there; may be repeated. A network may be a private one.",
    ),
    click.option(
        "--webhook-deny",
        multiple=True,
        metavar="HOST|NETWORK",
        help="Let no webhook go there; may be repeated.",
    ),
)
_PROCESS: Final = (
    click.option(
        "--http",
        type=click.Choice(("native", "asgi")),
        default="native",
        show_default=True,
        help="Answer straight on the socket, or through uvicorn's ASGI.",
    ),
    click.option(
        "--log-level", type=click.Choice(_LOG_LEVELS), default="warning", show_default=True
    ),
)

_Command = Callable[..., None]


def serve_flags(command: _Command) -> _Command:
    """Adds the flags of `serve` to a command function, in the order in which `--help` lists them."""
    flags = (
        *_LISTENING,
        *_STORAGE,
        *_READS,
        *_LIMITS,
        *_BROWSERS,
        *_STREAMS,
        *_WEBHOOKS,
        *_PROCESS,
    )
    for flag in reversed(flags):
        command = flag(command)
    return command


@dataclasses.dataclass(frozen=True)
class Flags:
    """The values of the flags of `serve`. Each attribute has the name of its flag."""

    host: str
    port: int
    uds: str | None
    tls_cert: str | None
    tls_key: str | None
    no_http2: bool
    data_dir: str
    no_create: bool
    memory: bool
    long_poll_timeout: float
    sse_max_age: float
    page_size: int
    max_body: int
    body_timeout: float
    max_in_flight: int
    max_unsent: int
    max_connections: int | None
    max_connections_per_address: int | None
    wal_size: int | None
    cors_origin: tuple[str, ...]
    shared_cache_age: int
    stream_root: str
    public_url: str | None
    webhook_allow_loopback: bool | None
    webhook_allow: tuple[str, ...]
    webhook_deny: tuple[str, ...]
    http: HttpLane
    log_level: str

    def tls_context(self) -> ssl.SSLContext | None:
        """Returns the TLS context of the server, or None without a certificate.

        Raises:
            click.UsageError: The certificate or the key is missing or cannot be used.
        """
        if self.tls_cert is None and self.tls_key is None:
            return None
        if self.tls_cert is None or self.tls_key is None:
            raise click.UsageError("--tls-cert and --tls-key go together")
        try:
            return tls_context(self.tls_cert, self.tls_key, http2=not self.no_http2)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    def check(self) -> None:
        """Refuses flags that contradict each other.

        Raises:
            click.UsageError: Two flags exclude each other, or a body of `--max-body` could never be received.
        """
        self._refuse_two_addresses()
        self._refuse_two_stores()
        if self.max_body > self.max_in_flight:
            raise click.UsageError(
                f"--max-body {self.max_body} is above --max-in-flight {self.max_in_flight}: such a body could never be taken"
            )

    def wal_size_for_body(self) -> int:
        """Returns the size of the write-ahead log in bytes. A record of the largest body must fit one of its segments.

        Raises:
            click.UsageError: `--wal-size` is too small for `--max-body`.
        """
        needed = size_for(self.max_body + MIB)  # a record is a body and its headers
        size = self.wal_size
        if size is None:
            size = max(DEFAULT_SIZE, needed)
        if size < needed:
            raise click.UsageError(
                f"--wal-size {size} is too small for --max-body {self.max_body}: it must be at least {needed}"
            )
        return size

    def cors_origins(self) -> tuple[str, ...] | bool:
        """Returns the value of `--cors-origin` as the argument `cors` of `create_app`. Without the flag, every origin may call."""
        if self.cors_origin == ("none",):
            return ()
        return self.cors_origin or True

    def allows_loopback_webhooks(self) -> bool:
        """Returns whether webhooks may go to this machine. By default, they may if only this machine can reach the server.

        A server on a Unix socket does not allow them, because a proxy in front of the socket may let in other machines.
        """
        if self.webhook_allow_loopback is not None:
            return self.webhook_allow_loopback
        return self.uds is None and is_loopback(self.host)

    def _refuse_two_addresses(self) -> None:
        """Refuses a TCP address together with a Unix socket."""
        if self.uds == "":
            raise click.UsageError("--uds needs a path")
        for name in ("host", "port"):
            if self.uds and _is_given(name):
                raise click.UsageError(f"--uds and --{name} exclude each other")

    def _refuse_two_stores(self) -> None:
        """Refuses flags about a data directory together with `--memory`."""
        for name in ("data_dir", "no_create", "wal_size"):
            if self.memory and _is_given(name):
                flag = name.replace("_", "-")
                raise click.UsageError(f"--memory and --{flag} exclude each other")


def _is_given(name: str) -> bool:
    """Returns whether the user has set a parameter of the current command."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not ParameterSource.DEFAULT
