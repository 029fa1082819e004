"""What clients, workers and the server itself can ask of subscriptions, as frozen values, parsed from JSON bodies."""

import re
from typing import Annotated, Final, TypeVar

import msgspec

from ...errors import BadRequest
from ..names import RESERVED_SEGMENT
from ..offsets import Offset, parse
from ..paths import check_path
from ..signing import Key
from .changes import Config, Snapshot, SubscriptionType
from .globs import check_pattern

T = TypeVar("T")

MAX_ID_BYTES: Final = 256  # a key of the catalog must hold it (LMDB, 511 bytes)
MAX_LINKS: Final = 10_000  # explicit links of one subscription; a pattern has no such bound
MAX_ACKS: Final = 10_000  # in one request; a wake lists no more streams
MAX_DESCRIPTION: Final = 1_000  # characters
MAX_WORKER: Final = 256  # characters of a worker's name
DEFAULT_LEASE_TTL: Final = 30_000  # milliseconds, PROTOCOL 6.2
MIN_LEASE_TTL: Final = 1_000
MAX_LEASE_TTL: Final = 600_000

_SENT: Final = re.compile(r"(?<=enum value) .*(?= - at )", re.DOTALL)  # of a body, in a message


class Grant(msgspec.Struct, frozen=True):
    """What a token allows: to act on one wake of one incarnation of a subscription.

    Attributes:
        id: the subscription.
        incarnation: of the subscription.
        generation: of the wake.
        wake_id: of the wake; "" in a token of an earlier version.
    """

    id: str
    incarnation: int
    generation: int
    wake_id: str = ""


class Subscribe(msgspec.Struct, frozen=True):
    """PUT of a subscription (PROTOCOL 6.2)."""

    id: str
    config: Config


class Unsubscribe(msgspec.Struct, frozen=True):
    """DELETE of a subscription (PROTOCOL 6.3)."""

    id: str


class Link(msgspec.Struct, frozen=True):
    """More explicit links (PROTOCOL 6.4)."""

    id: str
    paths: tuple[str, ...]


class Unlink(msgspec.Struct, frozen=True):
    """One explicit link less (PROTOCOL 6.4)."""

    id: str
    path: str


class Look(msgspec.Struct, frozen=True):
    """What a subscription is, and which of its streams have news."""

    id: str


class Tend(msgspec.Struct, frozen=True):
    """Does what time has brought: begins a wake that news waits for, ends one whose lease has run out, announces one that was
    put off, renames one that may have been delivered before the store was opened. Nothing changes if nothing is due."""

    id: str


class TakeNews(msgspec.Struct, frozen=True):
    """Has some of a crowd take the news of the feed.

    Attributes:
        ids: subscriptions that have not taken it.
        number: the news that all have taken with this; None if more are to come.
    """

    ids: tuple[str, ...]
    number: int | None


class Recall(msgspec.Struct, frozen=True):
    """One step of a pass through all streams, which finds those that a full subscription has missed.

    Attributes:
        id: the subscription.
        incarnation: of the subscription. If another one has its place, the pass is over.
        paths: streams that get a cursor at their beginning if they may have been missed.
        begins: whether the pass begins. It must look for paths once this command's outcome is there, not before.
        ends: whether the pass has gone through all paths with this step.
    """

    id: str
    incarnation: int
    paths: tuple[str, ...] = ()
    begins: bool = False
    ends: bool = False


class Claim(msgspec.Struct, frozen=True):
    """A worker wants the wake in flight (PROTOCOL 7.2)."""

    id: str
    worker: str


class Acknowledge(msgspec.Struct, frozen=True):
    """Cursors moved by who holds a wake; a heartbeat, or its end (PROTOCOL 7.1, 7.2).

    Attributes:
        grant: what the worker's token allows.
        generation: of the wake, as the request says.
        wake_id: of the wake, as the request says.
        acks: path and last processed offset of each stream.
        done: whether the worker is done with this wake.
    """

    grant: Grant
    generation: int
    wake_id: str
    acks: tuple[tuple[str, Offset], ...] = ()
    done: bool = False


class Release(msgspec.Struct, frozen=True):
    """A worker gives a wake back (PROTOCOL 7.2)."""

    grant: Grant
    generation: int
    wake_id: str


class Deliver(msgspec.Struct, frozen=True):
    """A webhook's wake is about to be delivered: what is to be told with it (PROTOCOL 7.1)."""

    grant: Grant


class Delivered(msgspec.Struct, frozen=True):
    """A webhook took a delivery and goes on by itself, or may do so: its lease runs from when it was sent.

    Attributes:
        grant: which wake it was of.
        sent_at: microseconds of steady time.
        problem: why it counts as failed all the same, in one word; None if it does not.
    """

    grant: Grant
    sent_at: int
    problem: str | None = None


class Undelivered(msgspec.Struct, frozen=True):
    """A delivery failed, and is tried again.

    Attributes:
        grant: which wake it was of.
        retry_at: microseconds of steady time of the next attempt.
        problem: why, in one word.
        told: what it told, to be told again; None if the next attempt is another wake, which tells what is so by then.
    """

    grant: Grant
    retry_at: int
    problem: str
    told: Snapshot | None


class KeepKeys(msgspec.Struct, frozen=True):
    """Puts keys in the place of those that have the names `instead_of`."""

    keys: tuple[Key, ...]
    instead_of: tuple[str, ...]


SubscriptionCommand = (
    Subscribe
    | Unsubscribe
    | Link
    | Unlink
    | Look
    | Tend
    | TakeNews
    | Recall
    | Claim
    | Acknowledge
    | Release
    | Deliver
    | Delivered
    | Undelivered
    | KeepKeys
)

#: What only moves on what is there. It works when a store has no room: the event of the next wake is put off then.
Upkeep = (
    Tend
    | TakeNews
    | Recall
    | Claim
    | Acknowledge
    | Release
    | Deliver
    | Delivered
    | Undelivered
    | Unlink
)


class _Webhook(msgspec.Struct):
    url: str


class _SubscribeBody(msgspec.Struct):
    type: SubscriptionType
    pattern: str | None = None
    streams: list[str] | None = None
    webhook: _Webhook | None = None
    wake_stream: str | None = None
    lease_ttl_ms: Annotated[int, msgspec.Meta(ge=MIN_LEASE_TTL, le=MAX_LEASE_TTL)] = (
        DEFAULT_LEASE_TTL
    )
    description: Annotated[str, msgspec.Meta(max_length=MAX_DESCRIPTION)] | None = None


class _LinkBody(msgspec.Struct):
    streams: list[str]


class _ClaimBody(msgspec.Struct):
    worker: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_WORKER)]


class AckText(msgspec.Struct):
    """One ack of a request, as it was sent."""

    stream: str
    offset: str


class AckBody(msgspec.Struct):
    """The body of a callback, an ack or a release."""

    wake_id: str
    generation: int
    acks: Annotated[list[AckText], msgspec.Meta(max_length=MAX_ACKS)] = []
    done: bool = False


def check_id(id_: str) -> str:
    """Returns a subscription's id unchanged, if it can be one, else raises BadRequest with INVALID_SUBSCRIPTION."""
    if not 0 < len(id_.encode()) <= MAX_ID_BYTES or "/" in id_ or id_ in (".", ".."):
        raise _invalid(f"its id must be one path segment of up to {MAX_ID_BYTES} bytes")
    return id_


def stream_path(relative: str, root: str) -> str:
    """Returns the path of a stream that a body names below the stream root.

    Raises:
        BadRequest: INVALID_PATH.
    """
    path = check_path(f"{root}/{relative}")
    if relative.split("/", 1)[0] == RESERVED_SEGMENT:
        raise BadRequest("a path below __ds names no stream", "INVALID_PATH")
    return path


def parse_subscribe(id_: str, body: bytes, root: str) -> Subscribe:
    """Parses and normalises the body of a PUT (PROTOCOL 6.2).

    Raises:
        BadRequest: INVALID_SUBSCRIPTION, INVALID_PATTERN or INVALID_PATH.
    """
    asked = _decode(body, _SubscribeBody)
    if asked.pattern is None and not asked.streams:
        raise _invalid("it needs a pattern or streams")
    if (asked.webhook is not None) != (asked.type == "webhook"):
        raise _invalid("webhook.url belongs to the type webhook, and only to that")
    if (asked.wake_stream is not None) != (asked.type == "pull-wake"):
        raise _invalid("wake_stream belongs to the type pull-wake, and only to that")
    streams = _paths(asked.streams or (), root)
    if asked.wake_stream is not None:
        stream_path(asked.wake_stream, root)
    if asked.wake_stream in (asked.streams or ()):
        raise _invalid("its wake stream cannot be one of its streams")
    return Subscribe(
        check_id(id_),
        Config(
            asked.type,
            None if asked.pattern is None else check_pattern(asked.pattern),
            tuple(path.removeprefix(root + "/") for path in streams),
            None if asked.webhook is None else asked.webhook.url,
            asked.wake_stream,
            asked.lease_ttl_ms,
            asked.description,
        ),
    )


def parse_link(id_: str, body: bytes, root: str) -> Link:
    """Parses the body of a POST of links (PROTOCOL 6.4)."""
    return Link(id_, _paths(_decode(body, _LinkBody).streams, root))


def parse_claim(id_: str, body: bytes) -> Claim:
    """Parses the body of a claim (PROTOCOL 7.2)."""
    return Claim(id_, _decode(body, _ClaimBody).worker)


def parse_acknowledge(body: bytes) -> AckBody:
    """Parses the body of a callback or an ack (PROTOCOL 7.1, 7.2), but for its acks: `parse_ack` is for each of them.

    Raises:
        BadRequest: INVALID_SUBSCRIPTION.
    """
    return _decode(body, AckBody)


def parse_ack(ack: AckText, root: str) -> tuple[str, Offset]:
    """Parses one ack: the path of a stream, and the last processed offset.

    Raises:
        BadRequest: INVALID_PATH or INVALID_OFFSET.
    """
    return stream_path(ack.stream, root), parse(ack.offset)


def parse_release(grant: Grant, body: bytes) -> Release:
    """Parses the body of a release (PROTOCOL 7.2)."""
    asked = _decode(body, AckBody)
    return Release(grant, asked.generation, asked.wake_id)


def _paths(relative: "list[str] | tuple[()]", root: str) -> tuple[str, ...]:
    if len(relative) > MAX_LINKS:
        raise _invalid(f"more than {MAX_LINKS} streams")
    return tuple(sorted({stream_path(each, root) for each in relative}))


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(_SENT.sub("", str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("the body is not JSON") from None


def _invalid(what: str) -> BadRequest:
    return BadRequest(f"the subscription request is invalid: {what}", "INVALID_SUBSCRIPTION")
