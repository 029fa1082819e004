"""Short ways to write the commands that tests give to a store."""

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
NOW = 1_750_000_000 * SECOND  # when tests begin


def create(
    path: str,
    media: str | None = "application/octet-stream",
    body: bytes = b"",
    *,
    closes: bool = False,
    lifetime: Lifetime = FOREVER,
    fork: Fork | None = None,
    conditions: Conditions | None = None,
) -> Create:
    """Returns a PUT."""
    parsed = parse_media_type(media) if media else None
    if parsed is None:
        return Create(path, None, lifetime, commands.Body(body), closes, fork, conditions)
    wire = commands.encode_body(parsed.kind, body, allow_empty=True)
    return Create(path, parsed, lifetime, wire, closes, fork, conditions)


def fork_of(
    source: str, offset: str | None = None, sub_offset: int | None = None, at: int | None = None
) -> Fork:
    """Returns what a fork request names; `at` is the position, resolved."""
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
    """Returns a POST."""
    parsed = parse_media_type(media)
    wire = commands.encode_body(parsed.kind, body, allow_empty=False)
    at = None if expected is None else offsets.parse(expected)
    return Append(
        path, parsed if body else None, wire, bool(body), closes, stamp, seq, at, conditions
    )


def of_streams(changes: Iterable[Change]) -> tuple[StreamChange, ...]:
    """Returns changes that are all of streams."""
    found = tuple(changes)
    assert not any(isinstance(change, SubscriptionChange) for change in found)
    return cast("tuple[StreamChange, ...]", found)
