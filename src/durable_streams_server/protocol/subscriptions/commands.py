"""What clients, workers and the server itself can ask of subscriptions, as frozen values, parsed from JSON bodies."""

import re
from typing import Annotated, Final, TypeVar

import msgspec

from ...errors import BadRequest
from ..names import RESERVED_SEGMENT
from ..offsets import Offset, parse
from ..paths import check_path
from ..signing import Key
from .changes import Config, Kind
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
    """

    id: str
    incarnation: int
    generation: int


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


class Delivered(msgspec.Struct, frozen=True):
    """A webhook took a delivery and goes on by itself: its lease runs from when it was sent."""

    grant: Grant
    sent_at: int


class Undelivered(msgspec.Struct, frozen=True):
    """A delivery failed.

    Attributes:
        grant: which wake it was of.
        retry_at: microseconds of steady time of the next attempt.
        timed_out: whether the receiver may still be at work on it; the next attempt is then another wake.
    """

    grant: Grant
    retry_at: int
    timed_out: bool


class Lapse(msgspec.Struct, frozen=True):
    """A lease has run out."""

    grant: Grant


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
    | Claim
    | Acknowledge
    | Release
    | Delivered
    | Undelivered
    | Lapse
    | KeepKeys
)


class _Webhook(msgspec.Struct):
    url: str


class _SubscribeBody(msgspec.Struct):
    type: Kind
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


class _Ack(msgspec.Struct):
    stream: str
    offset: str


class _AckBody(msgspec.Struct):
    wake_id: str
    generation: int
    acks: Annotated[list[_Ack], msgspec.Meta(max_length=MAX_ACKS)] = []
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
    wake_stream = None if asked.wake_stream is None else stream_path(asked.wake_stream, root)
    if wake_stream in streams:
        raise _invalid("its wake stream cannot be one of its streams")
    return Subscribe(
        check_id(id_),
        Config(
            asked.type,
            None if asked.pattern is None else check_pattern(asked.pattern),
            streams,
            None if asked.webhook is None else asked.webhook.url,
            wake_stream,
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


def parse_acknowledge(grant: Grant, body: bytes, root: str) -> Acknowledge:
    """Parses the body of a callback or an ack (PROTOCOL 7.1, 7.2).

    Raises:
        BadRequest: INVALID_SUBSCRIPTION, INVALID_PATH or INVALID_OFFSET.
    """
    asked = _decode(body, _AckBody)
    acks = tuple((stream_path(ack.stream, root), parse(ack.offset)) for ack in asked.acks)
    return Acknowledge(grant, asked.generation, asked.wake_id, acks, asked.done)


def parse_release(grant: Grant, body: bytes) -> Release:
    """Parses the body of a release (PROTOCOL 7.2)."""
    asked = _decode(body, _AckBody)
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
