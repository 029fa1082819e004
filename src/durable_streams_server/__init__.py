"""A server for the Durable Streams protocol: append-only streams at plain URLs.

    import asyncio
    from durable_streams_server import DurableStreamTestServer

    async def main() -> None:
        async with DurableStreamTestServer(port=4437) as server:
            print(server.base_url)

    asyncio.run(main())

Each name is imported on its first use, so importing the package is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    __version__: str

    from .access.authenticator import Authenticator
    from .access.jwt_rules import JwtRules
    from .access.signed_urls import sign_url
    from .errors import (
        BadRequest,
        Conflict,
        Forbidden,
        Gone,
        MethodNotAllowed,
        NotFound,
        OffsetMismatch,
        ProducerFenced,
        SequenceGap,
        StorageFull,
        StoreForked,
        StreamClosed,
        StreamDamaged,
        StreamError,
        TooLarge,
        TooManyRequests,
        Unauthorized,
        Unavailable,
    )
    from .http.app import create_app
    from .http.asgi.application import DurableStreamsApp
    from .http.embedded import DurableStreamTestServer, TestServerOptions
    from .http.gate.access_control import AccessControl
    from .http.guard import Guard, Scope
    from .http.limits.client_limits import ClientLimits
    from .protocol.cursor import (
        DEFAULT_CURSOR_EPOCH,
        DEFAULT_CURSOR_INTERVAL_SECONDS,
        CursorOptions,
    )
    from .protocol.paths import decode_stream_path, encode_stream_path
    from .protocol.permissions import Verb
    from .protocol.results import AppendResult, CreateResult, HeadResult, StreamPage
    from .storage.damage import Damaged
    from .storage.files.directory import DirectoryRefused
    from .storage.store import Store
    from .streams.arguments import CreateOptions
    from .streams.clock import Clock
    from .streams.cursors import (
        calculate_cursor,
        generate_response_cursor,
        handle_cursor_collision,
    )
    from .streams.embedded import Streams
    from .streams.file_store import FileBackedStreamStore
    from .streams.hooks import (
        RegistryHook,
        StreamLifecycleEvent,
        StreamLifecycleHook,
        create_registry_hooks,
    )
    from .streams.long_poll import PendingLongPoll
    from .streams.results import ReadResult, Stream, StreamMessage
    from .streams.stream_store import StreamStore
    from .subscriptions.addresses import WebhookPolicy

#: The module of each public name.
_HOMES: Final = {
    "BadRequest": "errors",
    "Conflict": "errors",
    "AppendResult": "protocol.results",
    "CreateOptions": "streams.arguments",
    "CreateResult": "protocol.results",
    "ClientLimits": "http.limits.client_limits",
    "Guard": "http.guard",
    "Scope": "http.guard",
    "Verb": "protocol.permissions",
    "AccessControl": "http.gate.access_control",
    "Authenticator": "access.authenticator",
    "JwtRules": "access.jwt_rules",
    "sign_url": "access.signed_urls",
    "HeadResult": "protocol.results",
    "StreamPage": "protocol.results",
    "Streams": "streams.embedded",
    "Clock": "streams.clock",
    "Damaged": "storage.damage",
    "DirectoryRefused": "storage.files.directory",
    "RegistryHook": "streams.hooks",
    "Store": "storage.store",
    "CursorOptions": "protocol.cursor",
    "DEFAULT_CURSOR_EPOCH": "protocol.cursor",
    "DEFAULT_CURSOR_INTERVAL_SECONDS": "protocol.cursor",
    "DurableStreamTestServer": "http.embedded",
    "DurableStreamsApp": "http.asgi.application",
    "FileBackedStreamStore": "streams.file_store",
    "Forbidden": "errors",
    "Gone": "errors",
    "MethodNotAllowed": "errors",
    "NotFound": "errors",
    "OffsetMismatch": "errors",
    "PendingLongPoll": "streams.long_poll",
    "ProducerFenced": "errors",
    "ReadResult": "streams.results",
    "SequenceGap": "errors",
    "StorageFull": "errors",
    "Stream": "streams.results",
    "StoreForked": "errors",
    "StreamClosed": "errors",
    "StreamDamaged": "errors",
    "StreamError": "errors",
    "StreamLifecycleEvent": "streams.hooks",
    "StreamLifecycleHook": "streams.hooks",
    "StreamMessage": "streams.results",
    "StreamStore": "streams.stream_store",
    "TestServerOptions": "http.embedded",
    "TooLarge": "errors",
    "TooManyRequests": "errors",
    "Unauthorized": "errors",
    "Unavailable": "errors",
    "WebhookPolicy": "subscriptions.addresses",
    "calculate_cursor": "streams.cursors",
    "create_app": "http.app",
    "create_registry_hooks": "streams.hooks",
    "decode_stream_path": "protocol.paths",
    "encode_stream_path": "protocol.paths",
    "generate_response_cursor": "streams.cursors",
    "handle_cursor_collision": "streams.cursors",
}

__all__ = [
    "DEFAULT_CURSOR_EPOCH",
    "DEFAULT_CURSOR_INTERVAL_SECONDS",
    "AccessControl",
    "AppendResult",
    "Authenticator",
    "BadRequest",
    "ClientLimits",
    "Clock",
    "Conflict",
    "CreateOptions",
    "CreateResult",
    "CursorOptions",
    "Damaged",
    "DirectoryRefused",
    "DurableStreamTestServer",
    "DurableStreamsApp",
    "FileBackedStreamStore",
    "Forbidden",
    "Gone",
    "Guard",
    "HeadResult",
    "JwtRules",
    "MethodNotAllowed",
    "NotFound",
    "OffsetMismatch",
    "PendingLongPoll",
    "ProducerFenced",
    "ReadResult",
    "RegistryHook",
    "Scope",
    "SequenceGap",
    "StorageFull",
    "Store",
    "StoreForked",
    "Stream",
    "StreamClosed",
    "StreamDamaged",
    "StreamError",
    "StreamLifecycleEvent",
    "StreamLifecycleHook",
    "StreamMessage",
    "StreamPage",
    "StreamStore",
    "Streams",
    "TestServerOptions",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Verb",
    "WebhookPolicy",
    "calculate_cursor",
    "create_app",
    "create_registry_hooks",
    "decode_stream_path",
    "encode_stream_path",
    "generate_response_cursor",
    "handle_cursor_collision",
    "sign_url",
]


def __getattr__(name: str) -> Any:
    """Imports a public name on its first use."""
    if name == "__version__":
        return _version()
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("durable-streams-server")
    except metadata.PackageNotFoundError:
        raise AttributeError("the package is not installed, so it has no version") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
