"""Decides creates and forks (PROTOCOL 4.2, 5.1)."""

from ...errors import BadRequest, Conflict, NotFound
from ..commands import Create, encode_body
from ..lifetime import FOREVER, inherit
from ..limits import MAX_FORK_DEPTH
from ..media import Kind, parse_media_type
from ..names import OCTET_STREAM
from ..preconditions import check_conditions
from ..refusals import stream_damaged
from ..state import Appended, Change, Created, Lookup, Origin, StreamState
from .append import check_room
from .delete import remove_stream
from .outcomes import CreateOutcome, Decision
from .rules import Rules


def decide_create(
    states: Lookup, command: Create, now: int, incarnation: int, rules: Rules
) -> Decision:
    """Decides a create or a fork. A create of a stream that exists with the same configuration changes nothing."""
    if rules.registry is not None:
        rules.registry.refuse_write(command.path)
    changes: tuple[Change, ...] = ()
    existing = states.get(command.path)
    if existing is not None:
        if existing.soft_deleted or (existing.expired(now) and existing.children):
            raise Conflict("the path is kept for forks of its deleted stream", "STREAM_GONE")
        if not existing.expired(now):
            if command.conditions is not None:
                check_conditions(command.conditions, existing)
            return _confirm(existing, command)
        changes = remove_stream(states, existing)  # an expired path can be created again at once
    if command.fork is None:
        media = command.media or parse_media_type(OCTET_STREAM)
        created = Created(
            command.path, incarnation, media, command.lifetime, now, public=command.public
        )
        begin = 0
        body = command.body
    else:
        created = _fork(states, command, now, incarnation)
        begin = created.origin.position if created.origin else 0
        body = command.body
        if body.is_json and created.media.kind is not Kind.JSON:
            raise Conflict("the source stream was replaced meanwhile", "SOURCE_GONE")
        if command.media is None and body.wire and not body.is_json:
            body = encode_body(created.media.kind, body.wire, allow_empty=True)
    if body.problem is not None:
        raise body.problem.refusal()
    check_room(begin, len(body.wire), 0, rules)
    if command.conditions is not None:
        check_conditions(command.conditions, None)
    changes = (*changes, created)
    if body.wire or command.closes:
        first = Appended(command.path, incarnation, begin, body.wire, command.closes, now)
        changes = (*changes, first)
    next_offset = created.name(begin + len(body.wire))
    outcome = CreateOutcome(
        command.path, next_offset, created.media, command.closes, True, command.public
    )
    return Decision(changes, outcome)


def _confirm(existing: StreamState, command: Create) -> Decision:
    """Confirms a create of a stream that exists with the same configuration, and refuses any other (PROTOCOL 5.1).

    A fork is compared with the origin stored with it, so its source need not exist any more. A field that a fork inherits
    matches any stored value if the request leaves it out.
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
    matches = matches and command.public == existing.public
    if not matches or command.closes != existing.closed:
        raise Conflict("a stream with another configuration is at this path", "STREAM_EXISTS")
    outcome = CreateOutcome(
        existing.path,
        existing.name(existing.tail),
        existing.media,
        existing.closed,
        False,
        existing.public,
    )
    return Decision((), outcome)


def _same_fork(origin: Origin, command: Create) -> bool:
    """Returns whether a request asks for a fork with this origin."""
    fork = command.fork
    if fork is None or fork.source != origin.source:
        return False
    if fork.offset is None:
        return fork.sub_offset in (None, origin.sub_offset)
    return str(fork.offset) == origin.anchor and (fork.sub_offset or 0) == origin.sub_offset


def _fork(states: Lookup, command: Create, now: int, incarnation: int) -> Created:
    """Returns the change that creates a fork, after checking its source."""
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
        raise stream_damaged()
    if fork.problem is not None:
        raise fork.problem
    if command.media is not None and command.media.essence != source.media.essence:
        raise Conflict(
            f"the source's content type is {source.media.essence}", "CONTENT_TYPE_MISMATCH"
        )
    if fork.position is None and fork.offset is not None:
        # The source's create was not durable when the offset was resolved, so readers did not see the source.
        raise NotFound("the source stream does not exist", "SOURCE_NOT_FOUND")
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
        command.public,
    )
