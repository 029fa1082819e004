"""The states that decisions about subscriptions use, and the steps that several decisions share."""

import msgspec

from ...errors import NotFound
from ..state import Lookup
from ..units import MILLISECOND
from .changes import Wake
from .draft import Draft
from .state import Subscriptions
from .subscription import Subscription
from .views import MAX_LISTED


class Context:
    """The newest states, and the draft of the record that a command makes.

    Attributes:
        subscriptions: the newest states of subscriptions.
        states: the newest states of streams.
        draft: the changes that the record makes to subscriptions.
        now: microseconds of steady time.
    """

    def __init__(
        self, subscriptions: Subscriptions, states: Lookup, draft: Draft, now: int
    ) -> None:
        self.subscriptions = subscriptions
        self.states = states
        self.draft = draft
        self.now = now

    def require(self, id_: str) -> Subscription:
        """Returns a subscription, after applying its outstanding feed entries.

        Raises:
            NotFound: SUBSCRIPTION_NOT_FOUND.
        """
        subscription = self.subscriptions.get(id_)
        if subscription is None:
            raise no_subscription()
        self.draft.take_news(subscription)
        return subscription

    def end_wake(self, subscription: Subscription, wake: Wake) -> bool:
        """Ends the wake in flight, and returns whether the next wake has begun.

        The next wake begins if a stream still has unread bytes (PROTOCOL 7.1 to 7.3).
        """
        path = self.draft.first_due(subscription)
        if path is None:
            self.draft.set_wake(subscription, self.draft.generation_of(subscription), None)
            return False
        self.draft.begin_wake(subscription, path, wake, passed_over(subscription, wake))
        return True

    def renamed_wake(self, subscription: Subscription, wake: Wake) -> tuple[int, Wake]:
        """Returns the number of the next generation, and the wake with the wake id of that generation."""
        generation = self.draft.generation_of(subscription) + 1
        name = self.subscriptions.wake_name(subscription, generation)
        return generation, msgspec.structs.replace(wake, wake_id=name)


def passed_over(subscription: Subscription, wake: Wake) -> int:
    """Returns how many streams move to the end of the queue after a wake.

    These are the streams that the wake listed and that its worker did not finish. No stream moves if the wake listed all streams of
    the queue.
    """
    return max(0, MAX_LISTED - wake.cleared) if len(subscription.due) > MAX_LISTED else 0


def lease_end(subscription: Subscription, start: int) -> int:
    """Returns the end of a lease that begins at `start`. Both are microseconds of steady time."""
    return start + subscription.config.lease_ttl * MILLISECOND


def no_subscription() -> NotFound:
    """Returns the error for a subscription that does not exist."""
    return NotFound("there is no such subscription", "SUBSCRIPTION_NOT_FOUND")
