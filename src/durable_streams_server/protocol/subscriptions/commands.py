"""The commands that clients, workers and the server itself give to subscriptions, and the parsing of JSON bodies into them."""

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

#: Maximum bytes of a subscription id, because an LMDB key of 511 bytes must hold it.
MAX_ID_BYTES: Final = 256
#: Maximum number of explicit links per subscription. A pattern can link any number of streams.
MAX_LINKS: Final = 10_000
#: Maximum number of acks per request, more than a wake lists streams.
MAX_ACKS: Final = 10_000
MAX_DESCRIPTION: Final = 1_000  #: maximum characters of a description
MAX_WORKER: Final = 256  #: maximum characters of a worker's name
DEFAULT_LEASE_TTL: Final = 30_000  #: milliseconds (PROTOCOL 6.2)
MIN_LEASE_TTL: Final = 1_000  #: milliseconds
MAX_LEASE_TTL: Final = 600_000  #: milliseconds

#: Matches the part of an error message that quotes the body.
_SENT: Final = re.compile(r"(?<=enum value) .*(?= - at )", re.DOTALL)


class Grant(msgspec.Struct, frozen=True):
    """The permission that a token carries: to act on one wake of one incarnation of a subscription.

    Attributes:
        id: the id of the subscription.
        incarnation: the incarnation of the subscription.
        generation: the generation of the wake.
        wake_id: the id of the wake, or "" in a token of an earlier version.
    """

    id: str
    incarnation: int
    generation: int
    wake_id: str = ""


class Subscribe(msgspec.Struct, frozen=True):
    """Creates a subscription, or confirms that it exists (PROTOCOL 6.2).

    Attributes:
        id: the id that the client chose.
        config: the configuration.
        owner: the client that sends the command, or None for a client without a token. A confirmation does not change the owner.
        owner_limit: the maximum number of subscriptions that the owner may have created, or None for no limit.
    """

    id: str
    config: Config
    owner: str | None = None
    owner_limit: int | None = None


class Unsubscribe(msgspec.Struct, frozen=True):
    """Deletes a subscription (PROTOCOL 6.3)."""

    id: str


class Link(msgspec.Struct, frozen=True):
    """Adds explicit links to a subscription (PROTOCOL 6.4)."""

    id: str
    paths: tuple[str, ...]


class Unlink(msgspec.Struct, frozen=True):
    """Removes an explicit link from a subscription (PROTOCOL 6.4)."""

    id: str
    path: str


class Inspect(msgspec.Struct, frozen=True):
    """Shows a subscription and its streams, without changing anything (PROTOCOL 6.3)."""

    id: str


class Tend(msgspec.Struct, frozen=True):
    """Does what has become due for a subscription's wake, and changes nothing if nothing is due.

    It begins a wake if bytes are unread and none is in flight, ends a wake whose lease is over, announces a wake that was put off,
    and renames a wake that may have been delivered before the store was opened.
    """

    id: str


class TakeNews(msgspec.Struct, frozen=True):
    """Applies the entries of the feed to some of the subscriptions that watch their streams.

    Attributes:
        ids: the ids of subscriptions to which the oldest entry was not applied yet.
        number: the number of that entry if these are the last such subscriptions, or None.
    """

    ids: tuple[str, ...]
    number: int | None


class Recall(msgspec.Struct, frozen=True):
    """Makes one step of a recall pass, which goes through all streams to find those that a full subscription has missed.

    Attributes:
        id: the id of the subscription.
        incarnation: the incarnation of the subscription. The pass ends if another incarnation has replaced it.
        paths: the paths of streams that get a cursor at their beginning if they may have been missed.
        begins: whether the step begins the pass. The caller must not search for paths before it has the outcome of this step.
        ends: whether the pass has gone through all paths with this step.
    """

    id: str
    incarnation: int
    paths: tuple[str, ...] = ()
    begins: bool = False
    ends: bool = False


class Claim(msgspec.Struct, frozen=True):
    """Gives the wake in flight to a worker (PROTOCOL 7.2)."""

    id: str
    worker: str


class Acknowledge(msgspec.Struct, frozen=True):
    """Moves cursors for the holder of a wake, and renews the lease or ends the wake (PROTOCOL 7.1, 7.2).

    Attributes:
        grant: the permission in the worker's token.
        generation: the generation of the wake that the request names.
        wake_id: the id of the wake that the request names.
        acks: pairs of a path and the last processed offset. A request without acks is a heartbeat.
        done: whether the worker is done with the wake.
    """

    grant: Grant
    generation: int
    wake_id: str
    acks: tuple[tuple[str, Offset], ...] = ()
    done: bool = False


class Release(msgspec.Struct, frozen=True):
    """Releases a wake that a worker holds (PROTOCOL 7.2)."""

    grant: Grant
    generation: int
    wake_id: str


class Deliver(msgspec.Struct, frozen=True):
    """Begins the delivery of a webhook's wake, and returns the snapshot to deliver (PROTOCOL 7.1)."""

    grant: Grant


class Delivered(msgspec.Struct, frozen=True):
    """Begins the lease of a wake that its webhook has accepted, or whose delivery has timed out.

    Attributes:
        grant: the permission for the wake that was delivered.
        sent_at: the time at which the delivery was sent, in microseconds of steady time. The lease begins at this time.
        problem: the reason why the delivery still counts as failed, in one word, or None.
    """

    grant: Grant
    sent_at: int
    problem: str | None = None


class Undelivered(msgspec.Struct, frozen=True):
    """Puts off a wake whose delivery failed.

    Attributes:
        grant: the permission for the wake that was delivered.
        retry_at: the time of the next attempt, in microseconds of steady time.
        problem: the reason of the failure, in one word.
        snapshot: the snapshot that the retry must repeat, or None if the retry is another wake with a new snapshot.
    """

    grant: Grant
    retry_at: int
    problem: str
    snapshot: Snapshot | None


class KeepKeys(msgspec.Struct, frozen=True):
    """Replaces the signing keys, if the present keys have the ids in `instead_of`."""

    keys: tuple[Key, ...]
    instead_of: tuple[str, ...]


SubscriptionCommand = (
    Subscribe
    | Unsubscribe
    | Link
    | Unlink
    | Inspect
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

#: Commands that a full store still accepts, because they only advance existing subscriptions. Their wake events are put off.
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


class WebhookBody(msgspec.Struct):
    """Where the server sends the wakes of a webhook subscription."""

    url: str


class SubscribeBody(msgspec.Struct):
    """The decoded body of a PUT that creates a subscription."""

    type: SubscriptionType
    pattern: str | None = None
    streams: list[str] | None = None
    webhook: WebhookBody | None = None
    wake_stream: str | None = None
    lease_ttl_ms: Annotated[int, msgspec.Meta(ge=MIN_LEASE_TTL, le=MAX_LEASE_TTL)] = (
        DEFAULT_LEASE_TTL
    )
    description: Annotated[str, msgspec.Meta(max_length=MAX_DESCRIPTION)] | None = None


class LinkBody(msgspec.Struct):
    """The decoded body of a POST that adds links."""

    streams: list[str]


class ClaimBody(msgspec.Struct):
    """The decoded body of a claim."""

    worker: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_WORKER)]


class AckText(msgspec.Struct):
    """One ack in the body of a request, not parsed yet."""

    stream: str
    offset: str


class AckBody(msgspec.Struct):
    """The decoded body of a callback, an ack or a release."""

    wake_id: str
    generation: int
    acks: Annotated[list[AckText], msgspec.Meta(max_length=MAX_ACKS)] = []
    done: bool = False


def check_id(id_: str) -> str:
    """Returns a subscription id unchanged, after checking it.

    Raises:
        BadRequest: INVALID_SUBSCRIPTION.
    """
    if not 0 < len(id_.encode()) <= MAX_ID_BYTES or "/" in id_ or id_ in (".", ".."):
        raise _invalid(f"its id must be one path segment of up to {MAX_ID_BYTES} bytes")
    return id_


def stream_path(relative: str, root: str) -> str:
    """Returns the absolute path of a stream that a body names relative to the stream root.

    Raises:
        BadRequest: INVALID_PATH.
    """
    path = check_path(f"{root}/{relative}")
    if relative.split("/", 1)[0] == RESERVED_SEGMENT:
        raise BadRequest("a path below __ds names no stream", "INVALID_PATH")
    return path


def parse_subscribe(
    id_: str,
    body: bytes,
    root: str,
    owner: str | None = None,
    owner_limit: int | None = None,
) -> Subscribe:
    """Parses the body of a PUT into a command with the configuration in normal form (PROTOCOL 6.2).

    Args:
        id_: the id that the client chose.
        body: the body of the request.
        root: the stream root.
        owner: the client that has sent the request, or None for a client without a token.
        owner_limit: the maximum number of subscriptions that the owner may have created, or None for no limit.

    Raises:
        BadRequest: INVALID_SUBSCRIPTION, INVALID_PATTERN or INVALID_PATH.
    """
    asked = _decode(body, SubscribeBody)
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
        owner,
        owner_limit,
    )


def parse_link(id_: str, body: bytes, root: str) -> Link:
    """Parses the body of a POST that adds links (PROTOCOL 6.4).

    Raises:
        BadRequest: INVALID_SUBSCRIPTION or INVALID_PATH.
    """
    return Link(id_, _paths(_decode(body, LinkBody).streams, root))


def parse_claim(id_: str, body: bytes) -> Claim:
    """Parses the body of a claim (PROTOCOL 7.2).

    Raises:
        BadRequest: INVALID_SUBSCRIPTION.
    """
    return Claim(id_, _decode(body, ClaimBody).worker)


def parse_acknowledge(body: bytes) -> AckBody:
    """Parses the body of a callback or an ack (PROTOCOL 7.1, 7.2). The caller parses each of its acks with `parse_ack`.

    Raises:
        BadRequest: INVALID_SUBSCRIPTION.
    """
    return _decode(body, AckBody)


def parse_ack(ack: AckText, root: str) -> tuple[str, Offset]:
    """Parses one ack into the path of a stream and the last processed offset.

    Raises:
        BadRequest: INVALID_PATH or INVALID_OFFSET.
    """
    return stream_path(ack.stream, root), parse(ack.offset)


def parse_release(grant: Grant, body: bytes) -> Release:
    """Parses the body of a release (PROTOCOL 7.2).

    Raises:
        BadRequest: INVALID_SUBSCRIPTION.
    """
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
