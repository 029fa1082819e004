"""Writes the registry, which is a stream of State Protocol events that lists all other streams.

An event is in the same record as the create or delete that it lists, so a crash cannot separate the two.
"""

from collections.abc import Iterable

import msgspec

from ..errors import Conflict, MethodNotAllowed
from .lifetime import FOREVER, timestamp
from .limits import MAX_POSITION
from .media import Kind, parse_media_type
from .state import Appended, Change, Created, Lookup, Removed, SoftDeleted

_JSON = "application/json"


class Registry(msgspec.Struct, frozen=True):
    """The configuration of the registry.

    Attributes:
        path: the decoded path of the registry itself.
        prefix: the prefix that is removed from the paths in events, as the Node server does with its stream root.
    """

    path: str
    prefix: str = ""

    def record(
        self,
        states: Lookup,
        changes: Iterable[Change],
        now: int,
        incarnation: int,
        offset: int = 0,
    ) -> tuple[Change, ...]:
        """Returns the changes that append events to the registry, one event for each stream that begins or ends.

        Args:
            states: the newest states of streams, before the record.
            changes: the record's changes to streams.
            now: microseconds of steady time.
            incarnation: the incarnation of the registry, if this is its first event.
            offset: microseconds by which the wall clock is ahead of steady time, for dates.
        """
        events = []
        for change in changes:
            event = self._event(states, change, now, offset)
            if event is not None:
                events.append(event)
        if not events:
            return ()
        existing = states.get(self.path)
        wire = b"".join(events)
        if existing is not None:
            begin, incarnation = existing.tail, existing.incarnation
            if begin + len(wire) > MAX_POSITION:
                raise Conflict("the registry is full", "STREAM_FULL")
            return (Appended(self.path, incarnation, begin, wire, False, now),)
        return (
            Created(self.path, incarnation, parse_media_type(_JSON), FOREVER, now),
            Appended(self.path, incarnation, 0, wire, False, now),
        )

    def accepts(self, states: Lookup) -> bool:
        """Returns whether the registry's path is free, or has a stream that can serve as the registry."""
        state = states.get(self.path)
        return state is None or not (
            state.closed
            or state.soft_deleted
            or state.mortal  # a stream that expires could not receive the event about its own end
            or state.media.kind is not Kind.JSON
        )

    def refuse_write(self, path: str) -> None:
        """Refuses a client's write to the registry.

        Raises:
            MethodNotAllowed: `path` is the registry's.
        """
        if path == self.path:
            raise MethodNotAllowed(
                "the registry is written by the server alone",
                headers=[(b"allow", b"GET, HEAD, OPTIONS")],
            )

    def _event(self, states: Lookup, change: Change, now: int, offset: int) -> bytes | None:
        if not isinstance(change, Created | SoftDeleted | Removed):
            return None
        event: dict[str, object] = {"type": "stream", "key": self._key(change.path)}
        headers = {"operation": "delete", "timestamp": timestamp(now + offset)}
        if isinstance(change, Created):
            headers["operation"] = "insert"
            event["value"] = {
                "path": self._key(change.path),
                "contentType": change.media.text,
                "createdAt": (change.at + offset) // 1000,
            }
        else:
            state = states.get(change.path)
            if state is None or state.soft_deleted:
                return None  # the soft delete has already appended this event
        event["headers"] = headers
        return msgspec.json.encode(event) + b","

    def _key(self, path: str) -> str:
        return path.removeprefix(self.prefix + "/") if self.prefix else path
