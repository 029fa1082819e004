"""The outcomes of subscription commands, which answer the command once its changes are durable."""

import msgspec

from ..signing import Key
from ..state import Change
from .views import View


class SubscribeOutcome(msgspec.Struct, frozen=True):
    """The outcome of a subscribe: the subscription exists, either new or already there with the same configuration."""

    view: View
    created: bool


class AckOutcome(msgspec.Struct, frozen=True):
    """The outcome of an acknowledgement: the cursors have moved.

    Attributes:
        next_wake: whether the next wake has begun, because streams still had unread bytes.
    """

    next_wake: bool


class RecallOutcome(msgspec.Struct, frozen=True):
    """The outcome of one step of a recall pass.

    Attributes:
        count: the number of the step's paths that were handled. There was no room for the cursors of the others.
        missed: whether the subscription still misses streams, so that this pass must continue or another one must follow.
    """

    count: int
    missed: bool


class Done(msgspec.Struct, frozen=True):
    """The outcome of a command that succeeded and has no result."""


class KeysOutcome(msgspec.Struct, frozen=True):
    """The outcome of a change of keys: the keys that the store holds now.

    They are the command's keys, or the keys that had already replaced those that the command expected.
    """

    keys: tuple[Key, ...]


SubscriptionOutcome = SubscribeOutcome | View | AckOutcome | RecallOutcome | Done | KeysOutcome

Decided = tuple[tuple[Change, ...], SubscriptionOutcome]
