"""Decides the server's own commands: due wakes, missed streams, entries of the feed, and signing keys."""

from .changes import KeysKept, NewsTaken
from .commands import KeepKeys, Recall, TakeNews
from .context import Context
from .draft import Draft
from .outcomes import Decided, Done, KeysOutcome, RecallOutcome
from .state import Subscriptions
from .steps import must_be_renamed
from .subscription import Subscription
from .views import brief_view


def tend(context: Context, subscription: Subscription) -> Decided:
    """Does what has become due: begins, ends, announces or renames the wake."""
    draft, wake = context.draft, context.draft.wake_of(subscription)
    if wake is None:
        path = draft.first_due(subscription)
        if path is not None:
            draft.begin_wake(subscription, path)
    elif wake.is_over(context.now):
        context.end_wake(subscription, wake)
    elif wake.is_due(context.now):
        if subscription.config.kind == "pull-wake":
            draft.announce(subscription, wake)
        elif must_be_renamed(wake, context.subscriptions.opening):
            draft.set_wake(subscription, *context.renamed_wake(subscription, wake))
    return draft.finish(), brief_view(draft, subscription)


def recall(context: Context, subscription: Subscription, command: Recall) -> Decided:
    """Makes one step of a recall pass, which gives cursors to streams that the subscription has missed."""
    draft, count = context.draft, 0
    since, again = draft.missed(subscription)
    if subscription.incarnation != command.incarnation or not since:
        return draft.finish(), RecallOutcome(len(command.paths), False)
    for path in command.paths:
        if not draft.recall(subscription, path):
            break
        count += 1
    if command.begins:
        draft.set_missed(subscription, since, 0)
    elif command.ends and count == len(command.paths):
        draft.set_missed(subscription, again, 0)
    return draft.finish(), RecallOutcome(count, draft.missed(subscription)[0] > 0)


def take_news(draft: Draft, subscriptions: Subscriptions, command: TakeNews) -> Decided:
    """Applies feed entries to some subscriptions, and drops an entry that has been applied to every watcher."""
    for id_ in command.ids:
        subscription = subscriptions.get(id_)
        if subscription is not None:
            draft.take_news(subscription)
    changes = draft.finish()
    news = None if command.number is None else subscriptions.feed.get(command.number)
    if news is None or not draft.all_have_taken(news):
        return changes, Done()
    return (*changes, NewsTaken(news.number)), Done()


def keep_keys(subscriptions: Subscriptions, command: KeepKeys) -> Decided:
    """Replaces the signing keys, if the present keys are those that the command expects."""
    if tuple(key.kid for key in subscriptions.keys) != command.instead_of:
        return (), KeysOutcome(subscriptions.keys)
    return (KeysKept(command.keys),), KeysOutcome(command.keys)
