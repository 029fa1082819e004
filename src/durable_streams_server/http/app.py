"""`create_app`: the pieces put together as one ASGI application."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType

from ..protocol.arguments import NUMBER, OPTIONAL_TEXT, require, require_callable, require_each
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
from ..streams.engine import Engine, EngineOptions
from ..streams.hooks import Hooks, RegistryHook, StreamLifecycleHook
from ..streams.stream_store import StreamStore
from ..subscriptions.addresses import WebhookPolicy
from ..subscriptions.service import Service, check_public_url
from .asgi.application import DurableStreamsApp
from .guard import Guard
from .options import HandlerOptions


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
    body_timeout: float = DEFAULT_BODY_TIMEOUT,
    compression: bool = True,
    public_url: str | None = None,
    webhook_policy: WebhookPolicy | None = None,
    guard: Guard | None = None,
    read_only: bool = False,
    clock: Clock = system_clock,
) -> DurableStreamsApp:
    """Returns a Durable Streams server as an ASGI application, to run or to mount.

    Mounted under a prefix, its streams are at the paths below that prefix, and it needs no lifespan events. Await its
    `stop()` when the host application stops.

    Args:
        store: where streams are kept; a new `StreamStore` if not given. One store serves one application.
        hooks: called as streams begin and end; see `create_registry_hooks`.
        cors: whose scripts may call: True for any origin's, or a list of origins. With False no CORS headers are sent: a host
            application's own CORS policy holds.
        shared_cache_age: seconds that shared caches, such as a CDN, may keep a page that can still grow. With 0 every cache asks
            whether its page is current each time that it uses the page.
        cursor_options: how the CDN cursor is counted.
        stream_root: the path under which `__ds` is reserved for the server.
        page_size: bytes of one page, at least 1024; an append, or a JSON value, that is larger is a page alone.
        long_poll_timeout: seconds that a long-poll waits.
        sse_max_age: seconds after which an event stream ends at the latest, for the client to come back; it may be 20% sooner.
        max_body: bytes of one request body; a larger one is 413.
        max_in_flight: bytes of request bodies held at once; past it, 503.
        max_unsent: bytes of pages held at once for readers that have not taken them; past it, large reads wait.
        body_timeout: seconds that a client may pause within a request body; past it, 408.
        compression: whether large pages are sent with gzip to clients that take it.
        public_url: the address that the application is reached at, its mount included, such as `https://example.com/streams`;
            webhooks are told to call back there. Without it there can be no webhooks.
        webhook_policy: where webhooks may go; any public HTTPS address if not given.
        guard: an asynchronous function of verb, path and ASGI scope that is asked before anything is done with a request: True lets
            the request pass, False is 403. The verb is `read`, `create`, `append` (a close too), `delete`, or `control` for what is
            below `__ds`; the path is the decoded one below the mount. To fork a stream is to read it as well. What the guard raises
            is the answer if it is a `StreamError`, and otherwise 500. The guard is asked about a live read when the read begins.
        read_only: whether HTTP may only read; any other request is 405. The program itself still writes with `streams`.
        clock: what time it is, in microseconds of Unix time.

    Raises:
        TypeError: for a setting of the wrong type.
        ValueError: for a setting out of range.
    """
    require((Store, NoneType), store=store)
    require((CursorOptions, NoneType), cursor_options=cursor_options)
    require((WebhookPolicy, NoneType), webhook_policy=webhook_policy)
    require(str, stream_root=stream_root)
    require(OPTIONAL_TEXT, public_url=public_url)
    require(int, page_size=page_size, max_body=max_body)
    require(int, max_in_flight=max_in_flight, max_unsent=max_unsent)
    require(int, shared_cache_age=shared_cache_age)
    require(NUMBER, long_poll_timeout=long_poll_timeout, sse_max_age=sse_max_age)
    require(NUMBER, body_timeout=body_timeout)
    require(bool, compression=compression, read_only=read_only)
    require_callable(clock=clock)
    require_callable(optional=True, guard=guard)
    if not isinstance(cors, bool):
        require_each(str, "origins", cors=cors)
    origins = ("*",) if cors is True else () if cors is False else tuple(cors)
    kept = store if store is not None else StreamStore()
    checked_url = None if public_url is None else check_public_url(public_url)
    engine_options = EngineOptions(
        page_size=page_size,
        long_poll_timeout=long_poll_timeout,
        sse_max_age=sse_max_age,
        cursor=cursor_options or CursorOptions(),
        stream_root=stream_root,
        max_unsent=max_unsent,
    )

    def make() -> tuple[Engine, Service]:
        engine = Engine(kept, engine_options, Hooks(hooks), clock)
        return engine, Service(engine, checked_url, webhook_policy)

    return DurableStreamsApp(
        make,
        HandlerOptions(
            stream_root=stream_root,
            cors_origins=origins,
            shared_cache_age=shared_cache_age,
            max_body=max_body,
            max_in_flight=max_in_flight,
            compression=compression,
            body_timeout=body_timeout,
            private=guard is not None,
            read_only=read_only,
        ),
        guard,
    )
