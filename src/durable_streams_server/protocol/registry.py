"""The registry: a stream of State Protocol events that lists every other stream.

Its events are part of the record that creates or deletes a stream, so that neither can be without the other.
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
    """Where the registry stands, and what is left off the front of each path that it lists.

    Attributes:
        path: the registry's own path, decoded.
        prefix: taken off the paths in events, as the Node server does with its stream root.
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
        """Returns the further changes that list `changes`: one event for each stream begun or ended.

        Args:
            states: the newest states, before `changes`.
            changes: what was decided.
            now: microseconds of steady time.
            incarnation: the number for the registry itself, if this is its first event.
            offset: microseconds by which the wall clock is ahead, for dates.
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
        """Whether the stream at the registry's path, if there is one, can serve as the registry."""
        state = states.get(self.path)
        return state is None or not (
            state.closed
            or state.soft_deleted
            or state.mortal  # the events of its own end would have nowhere to go
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
                return None  # its end was listed when it was soft-deleted
        event["headers"] = headers
        return msgspec.json.encode(event) + b","

    def _key(self, path: str) -> str:
        return path.removeprefix(self.prefix + "/") if self.prefix else path
