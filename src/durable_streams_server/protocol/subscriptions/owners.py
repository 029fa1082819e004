"""Decides the commands of owners: create a subscription, add links, remove links (PROTOCOL 6)."""

from typing import Final

from ...errors import BadRequest, Conflict, TooManyRequests
from ..limits import RETRY_SOON
from ..media import Kind
from ..state import Change, readable_state
from .changes import NewsTaken, Relinked, Subscribed
from .commands import MAX_LINKS, Link, Subscribe, Unlink
from .context import Context
from .outcomes import Decided, Done, SubscribeOutcome
from .state import Subscriptions
from .subscription import Subscription
from .views import view_of

MAX_SUBSCRIPTIONS: Final = 100_000  # each takes about 1 KiB of memory
#: Seconds after which a client at the limit of its token may try again. There is room again when somebody deletes a subscription.
_RETRY_FULL: Final = 5


def subscribe(context: Context, command: Subscribe, incarnation: int, offset: int) -> Decided:
    """Creates a subscription, or confirms one that exists with the same configuration, whoever owns it."""
    subscriptions, draft, config = context.subscriptions, context.draft, command.config
    existing = subscriptions.get(command.id)
    if existing is not None:
        if existing.config.digest != config.digest:
            raise Conflict(
                "a subscription with another configuration has this id", "SUBSCRIPTION_EXISTS"
            )
        draft.take_news(existing)
        view = view_of(draft, existing, context.states, context.now)
        return (), SubscribeOutcome(view, False)
    check_room(subscriptions, command)
    change = Subscribed(command.id, incarnation, config, context.now + offset, command.owner)
    fresh = Subscription(
        command.id, incarnation, config, change.at, subscriptions.root, command.owner
    )
    ended = () if fresh.wake_stream is None else _begin_wake_stream(context, fresh.wake_stream)
    view = view_of(draft, fresh, context.states, context.now)
    return (change, *draft.finish(), *ended), SubscribeOutcome(view, True)


def check_room(subscriptions: Subscriptions, command: Subscribe) -> None:
    """Refuses a new subscription if its owner or the server already has as many as allowed. An existing id always passes.

    Records in flight count, so simultaneous requests cannot exceed a limit.

    Raises:
        TooManyRequests: TOO_MANY_SUBSCRIPTIONS_OF_TOKEN or TOO_MANY_SUBSCRIPTIONS.
    """
    if subscriptions.get(command.id) is not None:
        return
    owner, limit = command.owner, command.owner_limit
    if owner is not None and limit is not None and subscriptions.owners.of(owner) >= limit:
        raise TooManyRequests(
            f"this token may have at most {limit} subscriptions",
            "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN",
            retry_after=_RETRY_FULL,
        )
    if len(subscriptions) >= MAX_SUBSCRIPTIONS:
        raise TooManyRequests(
            "there are too many subscriptions", "TOO_MANY_SUBSCRIPTIONS", retry_after=RETRY_SOON
        )


def _begin_wake_stream(context: Context, path: str) -> tuple[Change, ...]:
    """Makes a stream a wake stream, and returns the changes that drop its entries from the feed.

    From now on no pattern links the stream, because otherwise each event would cause further wakes and events.

    Raises:
        BadRequest: INVALID_WAKE_STREAM, if the stream exists and is not a JSON stream.
    """
    existing = readable_state(context.states, path)
    if existing is not None and existing.media.kind is not Kind.JSON:
        raise BadRequest("a wake stream must be one of JSON", "INVALID_WAKE_STREAM")
    subscriptions, draft = context.subscriptions, context.draft
    pending = subscriptions.feed.of(path)
    for other in subscriptions.watchers(path):
        if path not in other.streams:
            draft.drop_cursor(other, path)
        elif pending:
            # Its explicit link stays, so the entries are applied before they are dropped.
            draft.take_news(other)
    return tuple(NewsTaken(news.number) for news in pending)


def link(context: Context, subscription: Subscription, command: Link) -> Decided:
    """Adds explicit links. The cursor of each new stream starts at its tail."""
    if subscription.wake_stream in command.paths:
        raise BadRequest(
            "a wake stream cannot be linked to its own subscription", "INVALID_SUBSCRIPTION"
        )
    added = tuple(path for path in command.paths if path not in subscription.streams)
    if len(subscription.streams) + len(added) > MAX_LINKS:
        raise TooManyRequests(
            "the subscription has too many links", "TOO_MANY_LINKS", retry_after=RETRY_SOON
        )
    if not added:
        return (), Done()
    relative = tuple(map(context.subscriptions.relative, added))
    return (*context.draft.finish(), Relinked(subscription.id, relative, ())), Done()


def unlink(context: Context, subscription: Subscription, command: Unlink) -> Decided:
    """Removes an explicit link, and the stream's cursor unless the pattern links the stream too."""
    path = command.path
    if path not in subscription.streams:
        return (), Done()
    if not context.subscriptions.matches(subscription, path):
        context.draft.drop_cursor(subscription, path)
    relative = context.subscriptions.relative(path)
    return (*context.draft.finish(), Relinked(subscription.id, (), (relative,))), Done()
