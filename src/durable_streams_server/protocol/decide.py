"""The rules: (states, command, now) -> decision. The same pure functions for every store.

A decision is the changes to make durable, all in one record, and the outcome to answer with once they are. A refusal is
raised. Nothing decided is ever rolled back, so whatever can be refused is refused before a change is named.
"""

import msgspec

from ..errors import (
    BadRequest,
    Conflict,
    Gone,
    MethodNotAllowed,
    NotFound,
    OffsetMismatch,
    StreamClosed,
    StreamDamaged,
    TooManyRequests,
)
from . import media as media_types
from .ancestry import locate
from .commands import Append, Command, Create, Delete, Expire, encode_body
from .lifetime import FOREVER, bounded, inherit
from .limits import (
    DEFAULT_MAX_PRODUCERS,
    MAX_FORK_DEPTH,
    MAX_POSITION,
    MAX_TIME,
    MIN_TIME,
    RETRY_SOON,
)
from .names import OCTET_STREAM, STREAM_CLOSED, STREAM_NEXT_OFFSET
from .offsets import ZERO, Offset
from .preconditions import check_conditions
from .producers import ProducerState, Stamp, is_duplicate
from .registry import Registry
from .state import (
    Appended,
    Change,
    Created,
    Lookup,
    Origin,
    Removed,
    SoftDeleted,
    StreamState,
    source_of,
)
from .subscriptions.commands import Subscribe, SubscriptionCommand
from .subscriptions.decide import SubscriptionOutcome, decide_subscription
from .subscriptions.state import Subscriptions
from .subscriptions.wakes import follow
from .timeline import UNSET, Timeline


class Rules(msgspec.Struct, frozen=True):
    """What a store is configured to allow.

    Attributes:
        max_producers: idempotent producers per stream.
        registry: the stream that lists all others, if there is one.
        timeline: the store's, for the dates that records show to people.
        announces: whether a record may append the event of a wake; a store that has no room decides once more without.
    """

    max_producers: int = DEFAULT_MAX_PRODUCERS
    registry: Registry | None = None
    timeline: Timeline = UNSET
    announces: bool = True


class CreateOutcome(msgspec.Struct, frozen=True):
    """A stream stands at the path: new, or already there with a matching configuration."""

    path: str
    next_offset: str
    media: media_types.MediaType
    closed: bool
    created: bool


class AppendOutcome(msgspec.Struct, frozen=True, gc=False):
    """The append is in, or was already.

    Attributes:
        next_offset: the tail's name.
        closed: whether the stream is closed now.
        wrote: whether this request added data; not so for a duplicate, or for a close without a body.
        producer: the highest sequence number accepted in the stamp's epoch, when the request had a stamp.
    """

    next_offset: str
    closed: bool
    wrote: bool
    producer: ProducerState | None


class DeleteOutcome(msgspec.Struct, frozen=True):
    """The stream is gone; `expired` says that its own time did it."""

    expired: bool


class Ignored(msgspec.Struct, frozen=True):
    """Nothing was to be done."""


Outcome = CreateOutcome | AppendOutcome | DeleteOutcome | Ignored | SubscriptionOutcome


class Decision(msgspec.Struct, frozen=True, gc=False):
    """Changes for one record, possibly none, and the outcome that they justify."""

    changes: tuple[Change, ...]
    outcome: Outcome


def decide(
    states: Lookup,
    command: Command,
    now: int,
    incarnation: int,
    rules: Rules,
    subscriptions: Subscriptions,
) -> Decision:
    """Decides a command.

    Args:
        states: the newest states by path.
        command: what is asked for.
        now: microseconds of steady time.
        incarnation: the number that a new incarnation would get; every older one is smaller.
        rules: the store's configuration.
        subscriptions: the newest states of subscriptions.

    Raises:
        StreamError: when the command is refused; nothing changes then.
    """
    if not MIN_TIME <= now <= MAX_TIME:
        now = bounded(now)
    if isinstance(command, Append):
        decision = _append(states, command, now, rules)
    elif isinstance(command, Create):
        decision = _create(states, command, now, incarnation, rules)
    elif isinstance(command, Delete):
        decision = _delete(states, command, now, rules)
    elif isinstance(command, Expire):
        decision = _expire(states, command, now)
    else:
        _keep_registry(rules, subscriptions, command)
        # Its changes are whole: streams neither begin nor end, and what its events mean is among them.
        offset = rules.timeline.offset
        return Decision(
            *decide_subscription(
                subscriptions, states, command, now, incarnation, offset, rules.announces
            )
        )
    changes = decision.changes
    if changes and rules.registry is not None:
        offset = rules.timeline.offset
        changes += rules.registry.record(states, changes, now, incarnation + 1, offset)
    if changes and subscriptions.by_id:  # `len` would be a call for each append
        changes += follow(subscriptions, states, changes, now, rules.timeline.offset)
    return decision if changes is decision.changes else Decision(changes, decision.outcome)


def require(state: StreamState | None, now: int) -> StreamState:
    """Returns a state that was looked up, if it is one of a stream that still lives.

    Raises:
        NotFound: nothing is there, or its time has run out.
        Gone: it is soft-deleted.
        StreamDamaged: the store has lost some of its bytes.
    """
    if state is None or state.removed:
        raise _not_found()
    _require_alive(state, state.soft_deleted, now)
    if state.damage is not None:
        raise damaged()
    return state


def require_visible(state: StreamState | None, now: int) -> StreamState:
    """As `require`, for readers: what is not durable yet has not happened."""
    if state is None or state.visible_removed:
        raise _not_found()
    _require_alive(state, state.visible_soft_deleted, now)
    if state.damage is not None:
        raise damaged()
    return state


def damaged() -> StreamDamaged:
    """Returns the refusal of what needs the bytes of a damaged stream."""
    return StreamDamaged("the stream's data on disk is damaged")


def _require_alive(state: StreamState, soft_deleted: bool, now: int) -> None:
    expired = state.mortal and state.expired(now)
    if soft_deleted or (expired and state.children):
        raise Gone("the stream is deleted")
    if expired:
        raise _not_found()


def _not_found() -> NotFound:
    return NotFound("there is no stream at this path")


def _append(states: Lookup, command: Append, now: int, rules: Rules) -> Decision:
    if rules.registry is not None:
        _refuse_registry(rules, command.path)
    state = require(states.get(command.path), now)
    if state.closed:
        return _append_to_closed(state, command)
    if command.media is not None and command.media.essence != state.media.essence:
        raise Conflict(
            f"the stream's content type is {state.media.essence}", "CONTENT_TYPE_MISMATCH"
        )
    body = command.body
    if body.problem is not None:
        raise body.problem.refusal()
    stamp = command.stamp
    if stamp is not None:
        known = state.producers.get(stamp.producer)
        if is_duplicate(known, stamp):
            return Decision((), AppendOutcome(state.name(state.tail), False, False, known))
        if known is None and len(state.producers) >= rules.max_producers:
            raise TooManyRequests(
                "the stream has too many producers", "TOO_MANY_PRODUCERS", retry_after=RETRY_SOON
            )
    if command.expected is not None:
        _check_expected(state, command.expected)
    if command.seq is not None and state.last_seq is not None and command.seq <= state.last_seq:
        raise Conflict("Stream-Seq must be greater than the last one", "SEQUENCE_REGRESSION")
    start = state.tail
    tail = start + len(body.wire)
    if tail > MAX_POSITION:
        raise Conflict("the stream is full", "STREAM_FULL")
    if command.conditions is not None:
        check_conditions(command.conditions, state)
    change = Appended(
        state.path,
        state.incarnation,
        start,
        body.wire,
        command.closes,
        now,
        stamp,
        command.seq,
    )
    producer = ProducerState(stamp.epoch, stamp.seq) if stamp else None
    outcome = AppendOutcome(state.name(tail), command.closes, command.has_body, producer)
    return Decision((change,), outcome)


def _append_to_closed(state: StreamState, command: Append) -> Decision:
    """A closed stream takes nothing more; what is repeated is confirmed (PROTOCOL 5.2, 5.2.1)."""
    next_offset = state.name(state.tail)
    stamp = command.stamp
    if stamp is not None and stamp == state.closed_by:
        known = ProducerState(stamp.epoch, stamp.seq)
        return Decision((), AppendOutcome(next_offset, True, False, known))
    if stamp is None and not command.has_body:
        return Decision((), AppendOutcome(next_offset, True, False, None))
    raise StreamClosed(
        "the stream is closed",
        headers=[(STREAM_NEXT_OFFSET, next_offset.encode()), (STREAM_CLOSED, b"true")],
    )


def _check_expected(state: StreamState, expected: Offset) -> None:
    """`Stream-Expected-Offset`: append only if the tail is where the writer believes it."""
    tail = state.name(state.tail)
    at_start = expected == ZERO and state.tail == 0
    if not at_start and str(expected) != tail:
        raise OffsetMismatch(
            "the tail is not at the expected offset",
            headers=[(STREAM_NEXT_OFFSET, tail.encode())],
        )


def _create(states: Lookup, command: Create, now: int, incarnation: int, rules: Rules) -> Decision:
    _refuse_registry(rules, command.path)
    changes: tuple[Change, ...] = ()
    existing = states.get(command.path)
    if existing is not None:
        if existing.soft_deleted or (existing.expired(now) and existing.children):
            raise Conflict("the path is kept for forks of its deleted stream", "STREAM_GONE")
        if not existing.expired(now):
            if command.conditions is not None:
                check_conditions(command.conditions, existing)
            return _confirm(existing, command)
        changes = _remove(states, existing)  # an expired path can be created again at once
    if command.fork is None:
        media = command.media or media_types.parse_media_type(OCTET_STREAM)
        created = Created(command.path, incarnation, media, command.lifetime, now)
        begin = 0
        body = command.body
    else:
        created = _fork(states, command, now, incarnation)
        begin = created.origin.position if created.origin else 0
        body = command.body
        if body.is_json and created.media.kind is not media_types.Kind.JSON:
            raise Conflict("the source stream was replaced meanwhile", "SOURCE_GONE")
        if command.media is None and body.wire and not body.is_json:
            body = encode_body(created.media.kind, body.wire, allow_empty=True)
    if body.problem is not None:
        raise body.problem.refusal()
    if begin + len(body.wire) > MAX_POSITION:
        raise Conflict("the stream is full", "STREAM_FULL")
    if command.conditions is not None:
        check_conditions(command.conditions, None)
    changes = (*changes, created)
    if body.wire or command.closes:
        first = Appended(command.path, incarnation, begin, body.wire, command.closes, now)
        changes = (*changes, first)
    next_offset = created.name(begin + len(body.wire))
    outcome = CreateOutcome(command.path, next_offset, created.media, command.closes, True)
    return Decision(changes, outcome)


def _confirm(existing: StreamState, command: Create) -> Decision:
    """PUT on a stream that is there: the same configuration, or a conflict (PROTOCOL 5.1).

    A fork is compared with the values stored with it, before its source is looked at; what the request leaves out
    matches.
    """
    if command.fork is None:
        essence = command.media.essence if command.media else OCTET_STREAM
        matches = (
            existing.origin is None
            and essence == existing.media.essence
            and command.lifetime.matches(existing.lifetime)
        )
    else:
        matches = (
            (command.media is None or command.media.essence == existing.media.essence)
            and (command.lifetime == FOREVER or command.lifetime.matches(existing.lifetime))
            and existing.origin is not None
            and _same_fork(existing.origin, command)
        )
    if not matches or command.closes != existing.closed:
        raise Conflict("a stream with another configuration is at this path", "STREAM_EXISTS")
    outcome = CreateOutcome(
        existing.path, existing.name(existing.tail), existing.media, existing.closed, False
    )
    return Decision((), outcome)


def _same_fork(origin: Origin, command: Create) -> bool:
    fork = command.fork
    if fork is None or fork.source != origin.source:
        return False
    if fork.offset is None:
        return fork.sub_offset in (None, origin.sub_offset)
    return str(fork.offset) == origin.anchor and (fork.sub_offset or 0) == origin.sub_offset


def _fork(states: Lookup, command: Create, now: int, incarnation: int) -> Created:
    fork = command.fork
    assert fork is not None
    if fork.source == command.path:
        raise NotFound("the source stream does not exist", "SOURCE_NOT_FOUND")
    source = states.get(fork.source)
    if source is None or (source.expired(now) and not source.soft_deleted and not source.children):
        raise NotFound("the source stream does not exist", "SOURCE_NOT_FOUND")
    if source.soft_deleted or source.expired(now):
        raise Conflict("the source stream is deleted", "SOURCE_GONE")
    if source.damage is not None:
        raise damaged()
    if fork.problem is not None:
        raise fork.problem
    if command.media is not None and command.media.essence != source.media.essence:
        raise Conflict(
            f"the source's content type is {source.media.essence}", "CONTENT_TYPE_MISMATCH"
        )
    if fork.position is None and fork.offset is not None:
        raise NotFound(
            "the source stream does not exist", "SOURCE_NOT_FOUND"
        )  # nor for readers yet
    position = source.tail if fork.position is None else fork.position
    if fork.position is not None and fork.incarnation != source.incarnation:
        raise BadRequest("the fork offset is outside the source", "INVALID_OFFSET")
    anchor = source.name(position) if fork.offset is None else str(fork.offset)
    ancestry = source.ancestry.fork(source.incarnation, position)
    if ancestry.depth > MAX_FORK_DEPTH:
        raise Conflict(f"forks of forks may be {MAX_FORK_DEPTH} deep", "FORK_TOO_DEEP")
    return Created(
        command.path,
        incarnation,
        source.media,
        inherit(command.lifetime, source.lifetime),
        now,
        Origin(source.path, source.incarnation, anchor, fork.sub_offset or 0, position),
        (ancestry.span,),
    )


def _delete(states: Lookup, command: Delete, now: int, rules: Rules) -> Decision:
    _refuse_registry(rules, command.path)
    state = states.get(command.path)
    if state is None or state.removed:
        raise _not_found()
    # A damaged stream can be deleted: that needs none of its bytes.
    _require_alive(state, state.soft_deleted, now)
    if command.conditions is not None:
        check_conditions(command.conditions, state)
    return Decision(_remove(states, state), DeleteOutcome(expired=False))


def _expire(states: Lookup, command: Expire, now: int) -> Decision:
    state = states.get(command.path)
    if (
        state is None
        or state.incarnation != command.incarnation
        or state.soft_deleted
        or not state.expired(now)
    ):
        return Decision((), Ignored())
    return Decision(_remove(states, state), DeleteOutcome(expired=True))


def _remove(states: Lookup, state: StreamState) -> tuple[Change, ...]:
    """A stream with forks is soft-deleted; the last fork takes its soft-deleted sources with it (PROTOCOL 4.2)."""
    if state.children:
        return (SoftDeleted(state.path, state.incarnation),)
    changes: list[Change] = [Removed(state.path, state.incarnation)]
    while (source := source_of(states, state.origin)) is not None:
        if not source.soft_deleted or source.children > 1:
            break
        changes.append(Removed(source.path, source.incarnation))
        state = source
    return tuple(changes)


def _refuse_registry(rules: Rules, path: str) -> None:
    if rules.registry is not None and path == rules.registry.path:
        raise MethodNotAllowed(
            "the registry is written by the server alone",
            headers=[(b"allow", b"GET, HEAD, OPTIONS")],
        )


def _keep_registry(
    rules: Rules, subscriptions: Subscriptions, command: SubscriptionCommand
) -> None:
    if rules.registry is None or not isinstance(command, Subscribe):
        return
    wake_stream = command.config.wake_stream
    if wake_stream is not None and wake_stream == subscriptions.relative(rules.registry.path):
        raise BadRequest("the registry cannot be a wake stream", "INVALID_WAKE_STREAM")


def position_of(state: StreamState, offset: Offset) -> int:
    """Returns the position that an offset of a read names among what readers may see of a stream.

    An offset one past the end of a binary or text stream, or of an ancestor's part of one, names that end. `Reader.check` says why.

    Raises:
        Gone, BadRequest: as `ancestry.locate` says.
    """
    try:
        return locate(offset, state.incarnation, state.ancestry, state.visible_tail)
    except BadRequest:
        if state.media.kind is media_types.Kind.JSON or offset.position == 0:
            raise
    before = Offset(offset.incarnation, offset.position - 1)
    return locate(before, state.incarnation, state.ancestry, state.visible_tail)


__all__ = [
    "AppendOutcome",
    "CreateOutcome",
    "Decision",
    "DeleteOutcome",
    "Ignored",
    "Outcome",
    "Rules",
    "Stamp",
    "decide",
    "position_of",
    "require",
    "require_visible",
]
