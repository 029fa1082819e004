"""`create_app`: assembles the ASGI application from a store, an engine, the subscriptions and a handler."""

from __future__ import annotations

from collections.abc import Sequence

from ..protocol.cursor import CursorOptions
from ..protocol.limits import (
    DEFAULT_BODY_TIMEOUT,
    DEFAULT_LONG_POLL_TIMEOUT,
    DEFAULT_MAX_BODY,
    DEFAULT_MAX_IN_FLIGHT,
    DEFAULT_MAX_UNSENT,
    DEFAULT_PAGE_SIZE,
    DEFAULT_SSE_MAX_AGE,
)
from ..protocol.names import DEFAULT_STREAM_ROOT
from ..storage.store import Store
from ..streams.clock import Clock, system_clock
from ..streams.engine import Engine
from ..streams.hooks import Hooks, RegistryHook, StreamLifecycleHook
from ..streams.stream_store import StreamStore
from ..subscriptions.addresses import WebhookPolicy
from ..subscriptions.public_url import check_public_url
from ..subscriptions.service import Service
from .asgi.application import DurableStreamsApp
from .gate.access_control import OPEN_TO_ALL, AccessControl
from .guard import Guard
from .limits.client_limits import ClientLimits
from .settings import AppSettings


def create_app(
    *,
    store: Store | None = None,
    hooks: Sequence[StreamLifecycleHook | RegistryHook] = (),
    cors: bool | Sequence[str] = False,
    shared_cache_age: int = 0,
    cursor_options: CursorOptions | None = None,
    stream_root: str = DEFAULT_STREAM_ROOT,
    page_size: int = DEFAULT_PAGE_SIZE,
    long_poll_timeout: float = DEFAULT_LONG_POLL_TIMEOUT,
    sse_max_age: float = DEFAULT_SSE_MAX_AGE,
    max_body: int = DEFAULT_MAX_BODY,
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
    max_unsent: int = DEFAULT_MAX_UNSENT,
    max_streams: int | None = None,
    max_stream_bytes: int | None = None,
    max_total_bytes: int | None = None,
    body_timeout: float = DEFAULT_BODY_TIMEOUT,
    compression: bool = True,
    public_url: str | None = None,
    webhook_policy: WebhookPolicy | None = None,
    guard: Guard | None = None,
    access: AccessControl = OPEN_TO_ALL,
    read_only: bool = False,
    limits: ClientLimits | None = None,
    clock: Clock = system_clock,
) -> DurableStreamsApp:
    """Returns a Durable Streams server as an ASGI application, to run or to mount.

    Mounted, it has its streams at the paths below its prefix, and needs no lifespan events. Await its `stop()` when the host stops.
    A setting of the wrong type raises a `TypeError`, and one that is out of range a `ValueError`.

    Args:
        store: Where streams are kept; a new `StreamStore` if not given. One store serves one application.
        hooks: Called when streams begin and end; see `create_registry_hooks`.
        cors: True, or a list of the origins whose scripts may call the server; `local` stands for those of pages of this machine. False
            leaves CORS headers to the host application.
        shared_cache_age: Seconds that shared caches may keep a page that can grow. With 0 every cache revalidates it at each use.
        cursor_options: How the CDN cursor is computed.
        stream_root: The path below which `__ds` is reserved for the server.
        page_size: Bytes of one page, at least 1024. An append or JSON value that is larger is a page by itself.
        long_poll_timeout: Seconds that a long-poll waits for data.
        sse_max_age: Maximum age of an event stream in seconds, from which a random part of up to 20% is subtracted. Clients then reconnect.
        max_body: Maximum bytes of one request body; a larger body is refused with 413.
        max_in_flight: Maximum bytes of all request bodies held at once; beyond it, requests are refused with 503.
        max_unsent: Maximum bytes of pages held at once for readers that have not read them; beyond it, large reads wait.
        max_streams: Maximum number of streams; beyond it, creates are refused with 429. None keeps the limit of the store.
        max_stream_bytes: Maximum bytes of one stream; beyond it, appends are refused with 413. None keeps the limit of the store.
        max_total_bytes: Maximum bytes of all streams; beyond it, appends are refused with 507. None keeps the limit of the store.
        body_timeout: Seconds that a client may pause within a request body; after it, the request is refused with 408.
        compression: Whether to compress large pages with gzip for clients that accept it.
        public_url: The URL of the application with its mount, which receivers of webhooks call back. Without it there can be no webhooks.
        webhook_policy: Which URLs webhooks may call; any public HTTPS address if not given.
        guard: An asynchronous function that allows or refuses each request. See `Guard`.
        access: Who may reach the streams, by tokens and by the host that a request names. Everyone by default. See `AccessControl`.
        read_only: Whether HTTP clients may only read; any other request is refused with 405. The program itself can still write with `streams`.
        limits: What clients may take of the server: live reads, appends in a second, and subscriptions. See `ClientLimits`.
        clock: Returns the time in microseconds since 1970.
    """
    return _assemble(AppSettings(**locals()))  # here `locals()` contains exactly the arguments


def _assemble(settings: AppSettings) -> DurableStreamsApp:
    """Returns an application with these settings.

    Raises:
        ValueError: A setting is out of range.
    """
    store = settings.store if settings.store is not None else StreamStore()
    quota = settings.quota(store.quota)
    if quota != store.quota:
        store.limit(quota)
    public_url = None if settings.public_url is None else check_public_url(settings.public_url)
    engine_options = settings.engine_options()

    def make() -> tuple[Engine, Service]:
        engine = Engine(store, engine_options, Hooks(settings.hooks), settings.clock)
        return engine, Service(engine, public_url, settings.webhook_policy)

    return DurableStreamsApp(make, settings.handler_options(), settings.guard)
