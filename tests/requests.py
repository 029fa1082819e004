"""Short functions that return commands for a store."""

from collections.abc import Iterable
from typing import cast

from durable_streams_server.protocol import commands, offsets
from durable_streams_server.protocol.commands import Append, Create, Fork
from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.preconditions import Conditions
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.state import Change, StreamChange
from durable_streams_server.protocol.subscriptions.changes import SubscriptionChange

SECOND = 1_000_000  # microseconds
NOW = 1_750_000_000 * SECOND  # the present time at the start of a test


def create(
    path: str,
    media: str | None = "application/octet-stream",
    body: bytes = b"",
    *,
    closes: bool = False,
    lifetime: Lifetime = FOREVER,
    fork: Fork | None = None,
    conditions: Conditions | None = None,
    public: bool = False,
) -> Create:
    """Returns the command of a PUT request."""
    parsed = parse_media_type(media) if media else None
    if parsed is None:
        return Create(path, None, lifetime, commands.Body(body), closes, fork, conditions, public)
    wire = commands.encode_body(parsed.kind, body, allow_empty=True)
    return Create(path, parsed, lifetime, wire, closes, fork, conditions, public)


def fork_of(
    source: str, offset: str | None = None, sub_offset: int | None = None, at: int | None = None
) -> Fork:
    """Returns the source and position of a fork. `at` is the resolved byte position."""
    anchor = None if offset is None else offsets.parse(offset)
    return Fork(source, anchor, sub_offset, at)


def append(
    path: str,
    body: bytes = b"",
    media: str = "application/octet-stream",
    *,
    closes: bool = False,
    stamp: Stamp | None = None,
    seq: bytes | None = None,
    expected: str | None = None,
    conditions: Conditions | None = None,
) -> Append:
    """Returns the command of a POST request."""
    parsed = parse_media_type(media)
    wire = commands.encode_body(parsed.kind, body, allow_empty=False)
    at = None if expected is None else offsets.parse(expected)
    return Append(
        path, parsed if body else None, wire, bool(body), closes, stamp, seq, at, conditions
    )


def of_streams(changes: Iterable[Change]) -> tuple[StreamChange, ...]:
    """Returns the changes with a narrower type. All of them must be changes of streams."""
    found = tuple(changes)
    assert not any(isinstance(change, SubscriptionChange) for change in found)
    return cast("tuple[StreamChange, ...]", found)
