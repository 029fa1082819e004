"""The history of a trial: a list of records in order of time. Rules read nothing else.

The field `at` of a record is in seconds of the monotonic clock. Each request has two records: one before it is sent and one after its
response, because the server acts at some time between the two.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any, TypeVar

#: The streams that a wake lists: the path, the acknowledged offset and the tail of each.
Snapshot = tuple[tuple[str, str, str], ...]
#: Pairs of a path and an offset.
Acks = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One event of a trial."""

    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class Down(Record):
    """The test is about to stop the server. `why` is `kill`, `stop` or `pause`."""

    why: str


@dataclass(frozen=True, kw_only=True)
class Up(Record):
    """The server runs again, and the test has requested the tails of all streams."""


@dataclass(frozen=True, kw_only=True)
class ClockSet(Record):
    """The test has moved the wall clock of the server by `seconds`, which may be negative."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Copied(Record):
    """The test has copied the data directory while no server ran."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Restored(Record):
    """The test has replaced the data directory by an earlier copy."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Tail(Record):
    """A stream exists, and its tail is `offset`."""

    path: str
    offset: str


@dataclass(frozen=True, kw_only=True)
class StreamGone(Record):
    """A client has deleted a stream, or the server has lost the stream in a repair."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Damaged(Record):
    """The test has damaged the log file of a stream."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Repaired(Record):
    """`check --repair` has run. The stream may have lost its last appends, and may have a new incarnation."""

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
    """A subscription is linked to a stream, and its cursor begins at an offset."""

    sub: str
    path: str
    cursor: str


@dataclass(frozen=True, kw_only=True)
class Delivered(Record):
    """The receiver has got a delivery.

    Attributes:
        number: a number that no other delivery or request has.
        snapshot: the streams that the delivery lists.
    """

    number: int
    sub: str
    wake_id: str
    generation: int
    snapshot: Snapshot


@dataclass(frozen=True, kw_only=True)
class Answering(Record):
    """The receiver is about to answer a delivery.

    Attributes:
        number: the number of the delivery.
        how: `done`, `taken` (another 2xx status), `failed`, `cut` (no answer), `gzip` or `bom`.
        is_open: True if the server had not closed the connection yet.
    """

    number: int
    how: str
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class Answered(Record):
    """The receiver has written its whole answer to a delivery."""

    number: int


@dataclass(frozen=True, kw_only=True)
class BadSignature(Record):
    """The signature of a delivery is wrong."""

    number: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Requested(Record):
    """A worker or receiver is about to send a request.

    Attributes:
        number: a number that no other delivery or request has.
        what: `claim`, `ack`, `callback` or `release`.
        wake_id: the id of the wake whose token the request carries. It is empty for a claim.
        done: True if the request ends the wake.
    """

    number: int
    sub: str
    what: str
    wake_id: str = ""
    generation: int = 0
    acks: Acks = ()
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Responded(Record):
    """The server has answered a request of a worker or receiver.

    Attributes:
        number: the number of the request.
        status: the HTTP status, or 0 if no response came.
        code: the error code, or empty.
        wake_id: the id of the wake that a claim has got.
        generation: the generation of that wake.
        snapshot: the streams that the response to a claim lists.
    """

    number: int
    status: int
    code: str = ""
    wake_id: str = ""
    generation: int = 0
    snapshot: Snapshot = ()


@dataclass(frozen=True, kw_only=True)
class Inspected(Record):
    """The server has returned the document of a subscription.

    Attributes:
        since: the time of the request.
        status: the status of the subscription, `active` or `failed`.
        cursors: the linked streams with their acknowledged offsets.
    """

    sub: str
    since: float
    status: str
    cursors: Acks


@dataclass(frozen=True, kw_only=True)
class Stalled(Record):
    """The machine was so busy that a thread of the test slept `seconds` longer than intended."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failure(Record):
    """The test has seen a failure that no rule covers, such as a response with status 500."""

    what: str


R = TypeVar("R", bound=Record)


class History:
    """Collects the records of a trial. Any thread may add records."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._lock = threading.Lock()
        self._numbers = 0

    def add(self, kind: type[R], /, **fields: Any) -> R:
        """Adds a record with the present time, and returns the record."""
        with self._lock:
            record = kind(**fields)
            self.records.append(record)
        return record

    def next_number(self) -> int:
        """Returns a new number for a delivery or a request."""
        with self._lock:
            self._numbers += 1
            return self._numbers
