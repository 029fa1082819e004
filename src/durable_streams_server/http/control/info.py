"""Answers the route of `info`: the version of the server, what it can do, and the limits that a client can act on."""

from __future__ import annotations

import asyncio
import functools

import msgspec

from ...protocol.limits import (
    MAX_CONTENT_TYPE_BYTES,
    MAX_FORK_DEPTH,
    MAX_HEADER_BYTES,
    MAX_HEADER_COUNT,
    MAX_JSON_DEPTH,
    MAX_MESSAGES,
    MAX_PATH_BYTES,
    MAX_TOKEN_BYTES,
    MAX_TTL_SECONDS,
    MAX_URL_BYTES,
    SSE_PAGE_SIZE,
)
from ...protocol.names import LIVE_LONG_POLL, LIVE_SSE
from ...storage.ticket import Ticket
from ...streams.engine import Engine
from ...subscriptions.service import Service
from ...subscriptions.tickets import ticket_for
from ..facts import ServerFacts
from ..options import HandlerOptions
from ..request import Request
from .listing import MAX_STREAMS_LISTED
from .requests import MAX_CONTROL_BODY, Actions, Answer, document
from .routes import INFO


class Capabilities(msgspec.Struct, frozen=True):
    """What the server can do.

    Attributes:
        live: the values of `live` in a read.
        subscriptions: the types of subscriptions that can be created. Without a public URL there are no webhooks.
        forks: whether `Stream-Forked-From` is supported.
        conditional_writes: whether writes may have `If-Match`, `If-None-Match` and `Stream-Expected-Offset`.
        compression: the content codings of pages.
        http2: whether clients may use HTTP/2, or null if the ASGI server decides that.
        auth: the kinds of access control in force. Empty if every client may do everything.
    """

    live: tuple[str, ...]
    subscriptions: tuple[str, ...]
    forks: bool
    conditional_writes: bool
    compression: tuple[str, ...]
    http2: bool | None
    auth: tuple[str, ...]


class LimitsInForce(msgspec.Struct, frozen=True):
    """The limits in force that a client can act on. `docs/limits.md` explains them.

    Attributes:
        url_bytes: Maximum bytes of a URL.
        path_bytes: Maximum bytes of the decoded path of a stream.
        header_bytes: Maximum bytes of all headers of a request.
        header_count: Maximum number of headers of a request.
        token_bytes: Maximum bytes of a producer id, a `Stream-Seq`, a cursor or an offset.
        content_type_bytes: Maximum bytes of a content type.
        body_bytes: Maximum bytes of the body of a request to a stream.
        control_body_bytes: Maximum bytes of the body of a request below `__ds`.
        body_timeout_seconds: Seconds that a client may pause within a body.
        messages_per_append: Maximum JSON messages in one append.
        json_depth: Maximum levels of nesting in JSON.
        page_bytes: Bytes of one page, unless a single append is larger.
        event_bytes: Bytes of one event, unless a single append is larger.
        long_poll_seconds: Seconds after which a long-poll without data ends.
        event_stream_seconds: Seconds after which an event stream ends at the latest.
        ttl_seconds: Maximum TTL.
        fork_depth: Maximum number of forks in a chain.
        streams_listed: Maximum streams in one page of the listing.
        live_readers_per_client: Maximum live reads of one client at once.
        live_readers_per_stream: Maximum live reads of one stream at once.
        appends_per_second: Maximum appends of one client in a second, or null for no limit.
        append_bytes_per_second: Maximum bytes of appends of one client in a second, or null for no limit.
        subscriptions_per_token: Maximum subscriptions that one token has created.
    """

    url_bytes: int
    path_bytes: int
    header_bytes: int
    header_count: int
    token_bytes: int
    content_type_bytes: int
    body_bytes: int
    control_body_bytes: int
    body_timeout_seconds: float
    messages_per_append: int
    json_depth: int
    page_bytes: int
    event_bytes: int
    long_poll_seconds: float
    event_stream_seconds: float
    ttl_seconds: int
    fork_depth: int
    streams_listed: int
    live_readers_per_client: int
    live_readers_per_stream: int
    appends_per_second: int | None
    append_bytes_per_second: int | None
    subscriptions_per_token: int


class Info(msgspec.Struct, frozen=True):
    """The document that the route returns.

    Attributes:
        server: the name of the server.
        version: the version of the server, or null if it is not installed as a package.
        stream_root: the path below which the server's own routes are.
        capabilities: what the server can do.
        limits: the limits in force that a client can act on.
    """

    server: str
    version: str | None
    stream_root: str
    capabilities: Capabilities
    limits: LimitsInForce


class InfoRoute:
    """Answers requests for the description of the server.

    Args:
        engine: Has the limits of reads.
        service: Knows whether there can be webhooks.
        options: The limits on requests.
        root: The stream root.
        facts: What the server tells about itself.

    Attributes:
        actions: The function for each route and method.
    """

    def __init__(
        self,
        engine: Engine,
        service: Service,
        options: HandlerOptions,
        root: str,
        facts: ServerFacts,
    ) -> None:
        self._service = service
        self._options = options
        self._root = root
        self._facts = facts
        self._limits = _limits(engine, options)
        self.actions: Actions = {(INFO, "GET"): self._info}

    def _info(self, _: Request) -> Answer:
        # In a thread, because the first call takes some 50 ms.
        found = Ticket.of(version()) if _is_known() else ticket_for(asyncio.to_thread(version))
        return found.then(self._show)

    def _show(self, version: str | None) -> Answer:
        root = self._root or "/"
        capabilities = self._capabilities()
        return document(
            200, Info("durable-streams-server", version, root, capabilities, self._limits)
        )

    def _capabilities(self) -> Capabilities:
        webhooks = () if self._service.public_url is None else ("webhook",)
        return Capabilities(
            live=(LIVE_LONG_POLL, LIVE_SSE),
            subscriptions=("pull-wake", *webhooks),
            forks=True,
            conditional_writes=True,
            compression=("gzip",) if self._options.compression else (),
            http2=self._facts.http2,
            auth=self._facts.auth,
        )


@functools.cache
def version() -> str | None:
    """Returns the version of the server, or None if it is not installed as a package."""
    from importlib import metadata  # imported here, because a start does not need it

    try:
        return metadata.version("durable-streams-server")
    except metadata.PackageNotFoundError:
        return None


def _is_known() -> bool:
    """Returns whether `version` has its result already."""
    return version.cache_info().currsize > 0


def _limits(engine: Engine, options: HandlerOptions) -> LimitsInForce:
    """Returns the limits in force."""
    return LimitsInForce(
        url_bytes=MAX_URL_BYTES,
        path_bytes=MAX_PATH_BYTES,
        header_bytes=MAX_HEADER_BYTES,
        header_count=MAX_HEADER_COUNT,
        token_bytes=MAX_TOKEN_BYTES,
        content_type_bytes=MAX_CONTENT_TYPE_BYTES,
        body_bytes=options.max_body,
        control_body_bytes=min(MAX_CONTROL_BODY, options.max_body),
        body_timeout_seconds=options.body_timeout,
        messages_per_append=MAX_MESSAGES,
        json_depth=MAX_JSON_DEPTH,
        page_bytes=engine.options.page_size,
        event_bytes=SSE_PAGE_SIZE,
        long_poll_seconds=engine.options.long_poll_timeout,
        event_stream_seconds=engine.options.sse_max_age,
        ttl_seconds=MAX_TTL_SECONDS,
        fork_depth=MAX_FORK_DEPTH,
        streams_listed=MAX_STREAMS_LISTED,
        live_readers_per_client=options.clients.max_live_readers_per_client,
        live_readers_per_stream=options.clients.max_live_readers_per_stream,
        appends_per_second=options.clients.max_appends_per_second,
        append_bytes_per_second=options.clients.max_bytes_per_second,
        subscriptions_per_token=options.clients.max_subscriptions_per_token,
    )
