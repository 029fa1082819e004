"""What a trial saw and did, as a list of records in order of time. The rules read nothing else.

Every record begins with `at`, seconds of the monotonic clock. A request to the server leaves two records: one before it is sent and
one after its answer, because the server acts at some time between the two.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any, TypeVar

#: Of each stream that a wake names: its path, its acknowledged offset and its tail.
Told = tuple[tuple[str, str, str], ...]
Acks = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One thing that happened."""

    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class Down(Record):
    """The server is about to stand still: `kill`, `stop` or `pause`."""

    why: str


@dataclass(frozen=True, kw_only=True)
class Up(Record):
    """The server runs again, and the test has read the tails of all streams."""


@dataclass(frozen=True, kw_only=True)
class Stepped(Record):
    """The wall clock was set."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Copied(Record):
    """The data directory was copied, while no server ran."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Restored(Record):
    """The data directory was replaced by an earlier copy."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Tail(Record):
    """A stream is there and ends at an offset."""

    path: str
    offset: str


@dataclass(frozen=True, kw_only=True)
class Gone(Record):
    """A stream was deleted, or the server has no such stream after a repair."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Damaged(Record):
    """The log file of a stream was damaged."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Repaired(Record):
    """`check --repair` ran, and the stream may have lost its end and have a new incarnation."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Subscribed(Record):
    """The server has created a subscription."""

    sub: str
    kind: str
    lease: float


@dataclass(frozen=True, kw_only=True)
class Unsubscribed(Record):
    """The server has deleted a subscription."""

    sub: str


@dataclass(frozen=True, kw_only=True)
class Linked(Record):
    """A subscription has a stream, whose cursor begins at an offset."""

    sub: str
    path: str
    cursor: str


@dataclass(frozen=True, kw_only=True)
class Delivered(Record):
    """A webhook has come in.

    Attributes:
        number: tells this delivery from all others.
    """

    number: int
    sub: str
    wake_id: str
    generation: int
    told: Told


@dataclass(frozen=True, kw_only=True)
class Answering(Record):
    """The receiver is about to answer a delivery.

    Attributes:
        how: `done`, `taken` (another 2xx), `failed`, `cut`, `gzip` or `bom`.
        is_open: whether the server still had the connection.
    """

    number: int
    how: str
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class Answered(Record):
    """The receiver has written its answer whole."""

    number: int


@dataclass(frozen=True, kw_only=True)
class BadSignature(Record):
    """A delivery had a signature that does not verify."""

    number: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Asked(Record):
    """A worker is about to ask for something.

    Attributes:
        number: tells this request from all others.
        what: `claim`, `ack`, `callback` or `release`.
        wake_id: the wake whose token the request carries; empty for a claim.
        done: whether the request ends the wake.
    """

    number: int
    sub: str
    what: str
    wake_id: str = ""
    generation: int = 0
    acks: Acks = ()
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Replied(Record):
    """The server has answered a worker.

    Attributes:
        status: 0 when no answer came.
        code: of an error.
        wake_id: that a claim has got.
    """

    number: int
    status: int
    code: str = ""
    wake_id: str = ""
    generation: int = 0
    told: Told = ()


@dataclass(frozen=True, kw_only=True)
class Seen(Record):
    """The server has shown a subscription.

    Attributes:
        since: when the test asked.
        status: of the subscription, `active` or `failed`.
        cursors: paths with their acknowledged offsets.
    """

    sub: str
    since: float
    status: str
    cursors: Acks


@dataclass(frozen=True, kw_only=True)
class Stalled(Record):
    """A thread of the test that wanted to sleep for a moment slept longer: the machine was busy."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Wrong(Record):
    """The test itself has seen something that must not be."""

    what: str


R = TypeVar("R", bound=Record)


class History:
    """A list of records that many threads add to."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._lock = threading.Lock()
        self._numbers = 0

    def add(self, kind: type[R], /, **fields: Any) -> R:
        """Adds a record of this moment, and returns it."""
        with self._lock:
            record = kind(**fields)
            self.records.append(record)
        return record

    def number(self) -> int:
        """Returns a number that no other record has."""
        with self._lock:
            self._numbers += 1
            return self._numbers
