"""The configuration of a store that decisions depend on."""

import msgspec

from ..limits import DEFAULT_MAX_PRODUCERS, MAX_POSITION
from ..registry import Registry
from ..timeline import UNSET, Timeline


class Rules(msgspec.Struct, frozen=True):
    """The part of a store's configuration that decisions depend on.

    Attributes:
        max_producers: the maximum number of idempotent producers per stream.
        max_stream_bytes: the maximum bytes of one stream, without those that a fork inherits. Events that the server itself appends to
            the registry and to wake streams may exceed it, because the commands that cause them must not fail.
        registry: the stream that lists all other streams, or None if the store keeps no registry.
        timeline: the store's timeline, which converts steady time to the dates in records.
        announces: whether a record may append events to wake streams. If a store has no room for the events, it decides the
            command again with False.
    """

    max_producers: int = DEFAULT_MAX_PRODUCERS
    max_stream_bytes: int = MAX_POSITION
    registry: Registry | None = None
    timeline: Timeline = UNSET
    announces: bool = True
