"""Decisions, which consist of the changes for one record and of the outcome that answers the command.

The outcomes of subscription commands are in `subscriptions/outcomes.py`.
"""

import msgspec

from ..media import MediaType
from ..producers import ProducerState
from ..state import Change
from ..subscriptions.outcomes import SubscriptionOutcome


class CreateOutcome(msgspec.Struct, frozen=True):
    """The outcome of a create: the stream exists, either new or already there with a matching configuration.

    Attributes:
        path: the stream's path.
        next_offset: the offset of the tail.
        media: the stream's content type.
        closed: whether the stream is closed.
        created: whether this request created the stream.
        public: whether anyone may read the stream without a token.
    """

    path: str
    next_offset: str
    media: MediaType
    closed: bool
    created: bool
    public: bool = False


class AppendOutcome(msgspec.Struct, frozen=True, gc=False):
    """The outcome of an append: its data is in the stream, from this request or from an earlier one.

    Attributes:
        next_offset: the offset of the tail.
        closed: whether the stream is closed now.
        wrote: whether this request added data. False for a duplicate, and for a close without a body.
        producer: the highest sequence number accepted in the stamp's epoch, or None if the request had no stamp.
    """

    next_offset: str
    closed: bool
    wrote: bool
    producer: ProducerState | None


class DeleteOutcome(msgspec.Struct, frozen=True):
    """The outcome of a delete: the stream is gone. `expired` is True if its lifetime ran out, and False if a client deleted it."""

    expired: bool


class Ignored(msgspec.Struct, frozen=True):
    """The outcome of an expiry that found nothing to expire."""


Outcome = CreateOutcome | AppendOutcome | DeleteOutcome | Ignored | SubscriptionOutcome


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The changes for one record, possibly none, and the outcome to answer with once they are durable."""

    changes: tuple[Change, ...]
    outcome: Outcome
