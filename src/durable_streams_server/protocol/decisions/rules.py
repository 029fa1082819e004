"""The configuration of a store that decisions depend on."""

import msgspec

from ..limits import DEFAULT_MAX_PRODUCERS
from ..registry import Registry
from ..timeline import UNSET, Timeline


class Rules(msgspec.Struct, frozen=True):
    """The part of a store's configuration that decisions depend on.

    Attributes:
        max_producers: the maximum number of idempotent producers per stream.
        registry: the stream that lists all other streams, or None if the store keeps no registry.
        timeline: the store's timeline, which converts steady time to the dates in records.
        announces: whether a record may append events to wake streams. If a store has no room for the events, it decides the
            command again with False.
    """

    max_producers: int = DEFAULT_MAX_PRODUCERS
    registry: Registry | None = None
    timeline: Timeline = UNSET
    announces: bool = True
