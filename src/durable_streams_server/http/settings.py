"""`AppSettings`: the arguments of `create_app`, checked, and passed on to the parts of the server that they configure."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType

import msgspec

from ..protocol.arguments import (
    NUMBER,
    OPTIONAL_INT,
    OPTIONAL_TEXT,
    require,
    require_callable,
    require_each,
)
from ..protocol.cursor import CursorOptions
from ..protocol.decisions.quota import Quota
from ..storage.store import Store
from ..streams.clock import Clock
from ..streams.hooks import RegistryHook, StreamLifecycleHook
from ..streams.options import EngineOptions
from ..subscriptions.addresses import WebhookPolicy
from .gate.access_control import AccessControl
from .guard import Guard
from .limits.client_limits import ClientLimits
from .options import HandlerOptions
from .private import Privacy


class AppSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `create_app`, which documents them.

    Raises:
        TypeError: An argument has the wrong type.
    """

    store: Store | None
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
    clock: Clock

    def __post_init__(self) -> None:
        require((Store, NoneType), store=self.store)
        require((CursorOptions, NoneType), cursor_options=self.cursor_options)
        require((WebhookPolicy, NoneType), webhook_policy=self.webhook_policy)
        require((ClientLimits, NoneType), limits=self.limits)
        require(AccessControl, access=self.access)
        require(str, stream_root=self.stream_root)
        require(OPTIONAL_TEXT, public_url=self.public_url)
        require(int, page_size=self.page_size, max_body=self.max_body)
        require(int, max_in_flight=self.max_in_flight, max_unsent=self.max_unsent)
        require(int, shared_cache_age=self.shared_cache_age)
        require(OPTIONAL_INT, max_streams=self.max_streams, max_total_bytes=self.max_total_bytes)
        require(OPTIONAL_INT, max_stream_bytes=self.max_stream_bytes)
        require(NUMBER, long_poll_timeout=self.long_poll_timeout, sse_max_age=self.sse_max_age)
        require(NUMBER, body_timeout=self.body_timeout)
        require(bool, compression=self.compression, read_only=self.read_only)
        require_callable(clock=self.clock)
        require_callable(optional=True, guard=self.guard)
        if not isinstance(self.cors, bool):
            require_each(str, "origins", cors=self.cors)

    def quota(self, present: Quota) -> Quota:
        """Returns the limits of streams and bytes. A limit that is None stays as it is.

        Args:
            present: the present limits of the store.

        Raises:
            ValueError: A setting is out of range.
        """
        given = {name: getattr(self, name) for name in Quota.__struct_fields__}
        return msgspec.structs.replace(
            present, **{name: limit for name, limit in given.items() if limit is not None}
        )

    def engine_options(self) -> EngineOptions:
        """Returns the options of the engine.

        Raises:
            ValueError: A setting is out of range.
        """
        return EngineOptions(
            page_size=self.page_size,
            long_poll_timeout=self.long_poll_timeout,
            sse_max_age=self.sse_max_age,
            cursor=self.cursor_options or CursorOptions(),
            stream_root=self.stream_root,
            max_unsent=self.max_unsent,
        )

    def handler_options(self) -> HandlerOptions:
        """Returns the options of the handler. With a guard, responses to reads are private. With tokens, no cache may store a read that needed one.

        Raises:
            ValueError: A setting is out of range.
        """
        return HandlerOptions(
            stream_root=self.stream_root,
            cors_origins=self._origins(),
            shared_cache_age=self.shared_cache_age,
            max_body=self.max_body,
            max_in_flight=self.max_in_flight,
            compression=self.compression,
            body_timeout=self.body_timeout,
            privacy=self._privacy(),
            access=self.access,
            read_only=self.read_only,
            clients=self.limits or ClientLimits(),
        )

    def _privacy(self) -> Privacy:
        if self.access.authenticator is not None:
            return "secret"
        return "shared" if self.guard is None else "private"

    def _origins(self) -> tuple[str, ...]:
        if isinstance(self.cors, bool):
            return ("*",) if self.cors else ()
        return tuple(self.cors)
