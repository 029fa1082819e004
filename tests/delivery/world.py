"""The state of the server as the trial knows it: the streams, the subscriptions, and all tokens that the server has issued."""

import copy
import fnmatch
import threading
from dataclasses import dataclass, field

from tests.delivery.history import Snapshot


@dataclass
class Stream:
    """A stream on the server.

    Attributes:
        tails: every offset that was a tail of the stream, in order.
        is_fork: True if the stream is a fork or the source of one. The trial neither deletes nor damages such streams.
        is_damaged: True if the log of the stream was damaged and not repaired since.
    """

    path: str
    tails: list[str]
    is_fork: bool = False
    is_damaged: bool = False


@dataclass
class Sub:
    """A subscription on the server.

    Attributes:
        kind: `webhook` or `pull-wake`.
        pattern: the glob pattern, or empty.
        streams: the paths of the explicit links.
        lease: the seconds of the lease.
    """

    id: str
    kind: str
    pattern: str
    streams: tuple[str, ...]
    lease: float

    def matches(self, path: str) -> bool:
        """Returns whether the subscription is linked to a stream."""
        return path in self.streams or (bool(self.pattern) and fnmatch.fnmatch(path, self.pattern))


@dataclass
class Grant:
    """A token that the server has issued, with its wake."""

    sub: str
    kind: str
    wake_id: str
    generation: int
    token: str
    snapshot: Snapshot


@dataclass
class World:
    """The streams, the subscriptions and the tokens of a trial.

    The trial calls `copied` and `restore` whenever it copies and restores the data directory. A restore keeps all tokens.

    Attributes:
        was_restored: True if an earlier copy of the directory was ever restored.
    """

    streams: dict[str, Stream] = field(default_factory=dict)
    subs: dict[str, Sub] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    was_restored: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def copied(self) -> tuple[dict[str, Stream], dict[str, Sub]]:
        """Returns a copy of the present streams and subscriptions, for `restore`."""
        with self.lock:
            return copy.deepcopy((self.streams, self.subs))

    def restore(self, state: tuple[dict[str, Stream], dict[str, Sub]]) -> None:
        """Replaces the streams and the subscriptions by those of an earlier copy."""
        with self.lock:
            self.streams, self.subs = copy.deepcopy(state)
            self.was_restored = True

    def offsets_between(self, path: str, acked: str, tail: str) -> list[str]:
        """Returns the offsets to which an acknowledgement can move a cursor, with the tail last."""
        with self.lock:
            stream = self.streams.get(path)
            inside = [each for each in stream.tails if acked < each < tail] if stream else []
        return [*inside, tail]

    def may_lack(self, path: str, *offsets: str) -> bool:
        """Returns whether the stream may lack one of these offsets because of a restore."""
        with self.lock:
            stream = self.streams.get(path)
            known = set(stream.tails) if stream is not None else set()
            return self.was_restored and not known.issuperset(offsets)

    def is_damaged(self, path: str) -> bool:
        """Returns whether the server may refuse all requests to a stream."""
        with self.lock:
            stream = self.streams.get(path)
            return stream is not None and stream.is_damaged
