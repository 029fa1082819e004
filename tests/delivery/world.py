"""What a trial knows of the server's state: which streams and subscriptions there are, and which tokens were given out."""

import copy
import fnmatch
import threading
from dataclasses import dataclass, field

from tests.delivery.history import Told


@dataclass
class Stream:
    """One stream.

    Attributes:
        tails: every offset that has been its tail, in order.
        is_fork: whether it is a fork or the source of one; those are neither deleted nor damaged.
        is_damaged: whether its log was damaged and not repaired since.
    """

    path: str
    tails: list[str]
    is_fork: bool = False
    is_damaged: bool = False


@dataclass
class Sub:
    """One subscription.

    Attributes:
        kind: `webhook` or `pull-wake`.
        pattern: a glob, or nothing.
        streams: paths linked by name.
        lease: in seconds.
    """

    id: str
    kind: str
    pattern: str
    streams: tuple[str, ...]
    lease: float

    def matches(self, path: str) -> bool:
        """Whether a stream is linked."""
        return path in self.streams or (bool(self.pattern) and fnmatch.fnmatch(path, self.pattern))


@dataclass
class Grant:
    """A token that was given out, and the wake that it belongs to."""

    sub: str
    kind: str
    wake_id: str
    generation: int
    token: str
    told: Told


@dataclass
class World:
    """Everything. `copied` and `restore` go with copies of the data directory; grants are never forgotten.

    Attributes:
        was_restored: whether an earlier copy of the directory was ever restored.
    """

    streams: dict[str, Stream] = field(default_factory=dict)
    subs: dict[str, Sub] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    was_restored: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def copied(self) -> tuple[dict[str, Stream], dict[str, Sub]]:
        """Returns what a copy of the directory holds."""
        with self.lock:
            return copy.deepcopy((self.streams, self.subs))

    def restore(self, held: tuple[dict[str, Stream], dict[str, Sub]]) -> None:
        """Goes back to a copy."""
        with self.lock:
            self.streams, self.subs = copy.deepcopy(held)
            self.was_restored = True

    def between(self, path: str, acked: str, tail: str) -> list[str]:
        """Returns the offsets of a stream that move a cursor, the tail last."""
        with self.lock:
            stream = self.streams.get(path)
            inside = [each for each in stream.tails if acked < each < tail] if stream else []
        return [*inside, tail]

    def may_lack(self, path: str, *offsets: str) -> bool:
        """Whether a restore may have taken one of these offsets from the stream."""
        with self.lock:
            stream = self.streams.get(path)
            known = set(stream.tails) if stream is not None else set()
            return self.was_restored and not known.issuperset(offsets)

    def is_damaged(self, path: str) -> bool:
        """Whether a stream may refuse everything."""
        with self.lock:
            stream = self.streams.get(path)
            return stream is not None and stream.is_damaged
