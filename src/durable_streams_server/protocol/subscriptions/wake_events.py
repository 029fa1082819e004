"""The events that announce pull-wakes on their wake streams (PROTOCOL 7.2)."""

from collections.abc import Iterable, Mapping

import msgspec

from ..limits import MAX_POSITION
from ..media import Kind
from ..state import (
    Appended,
    Change,
    Created,
    Lookup,
    Removed,
    SoftDeleted,
    StreamState,
    readable_state,
)


class WakeEventAppender:
    """Turns the events of one record into appends to wake streams.

    The appends come after the record's own changes to these streams.

    Args:
        states: the newest states of streams, before the record.
        changes: the record's changes to streams.
        created: the streams that these changes create, by path.
        now: microseconds of steady time.
    """

    def __init__(
        self, states: Lookup, changes: Iterable[Change], created: Mapping[str, Created], now: int
    ) -> None:
        self._states = states
        self._created = created
        self._now = now
        self._tails: dict[str, int] = {}
        # Streams that the record closes or removes. They receive no events.
        self._ended: set[str] = set()
        for change in changes:
            if isinstance(change, Created):
                self._ended.discard(change.path)
            elif isinstance(change, Removed | SoftDeleted):
                self._ended.add(change.path)
            elif isinstance(change, Appended):
                self._tails[change.path] = change.start + len(change.data)
                if change.closes:
                    self._ended.add(change.path)

    def append(self, wake_stream: str, data: bytes) -> Appended | None:
        """Returns the append of events to a wake stream, or None if the stream cannot receive them.

        Args:
            wake_stream: the path of the wake stream.
            data: the events as wire bytes.
        """
        if wake_stream in self._ended:
            return None
        created = self._created.get(wake_stream)
        if created is not None:
            media, incarnation = created.media, created.incarnation
            start = created.origin.position if created.origin is not None else 0
        else:
            state = readable_state(self._states, wake_stream)
            if state is None or wake_stream_problem(state, self._now) is not None:
                return None
            media, incarnation, start = state.media, state.incarnation, state.tail
        start = self._tails.get(wake_stream, start)
        if media.kind is not Kind.JSON or start + len(data) > MAX_POSITION:
            return None
        self._tails[wake_stream] = start + len(data)
        return Appended(wake_stream, incarnation, start, data, False, self._now)


def encode_wake_event(id_: str, stream: str, generation: int, milliseconds: int) -> bytes:
    """Returns the event of one wake as wire bytes.

    Args:
        id_: the subscription's id.
        stream: the path, below the stream root, of a stream with unread bytes.
        generation: the wake's generation.
        milliseconds: the time of the wake, in milliseconds of Unix time.
    """
    event = {
        "type": "wake",
        "subscription_id": id_,
        "stream": stream,
        "generation": generation,
        "ts": milliseconds,
    }
    return msgspec.json.encode(event) + b","


def wake_stream_problem(state: StreamState | None, now: int) -> str | None:
    """Returns the reason why a wake stream cannot receive events, in one word, or None if it can."""
    if state is None or state.soft_deleted or state.expired(now):
        return "wake_stream_missing"
    if state.damage is not None:
        return "wake_stream_damaged"
    if state.closed:
        return "wake_stream_closed"
    return None if state.media.kind is Kind.JSON else "wake_stream_not_json"
