"""The documents in which a store keeps subscriptions: one for each subscription, one for the keys, one for the feed."""

from typing import Final

import msgspec

from ..offsets import Offset
from .changes import Config, KeysKept, News, NewsTaken, SubscriptionChange, Wake
from .subscription import Subscription

KEYS: Final = "keys"  #: the name of the document that holds the keys
NEWS: Final = "news"  #: the name of the document that holds the feed
_PREFIX: Final = "subscription/"


class _Document(msgspec.Struct, frozen=True, array_like=True):
    """The encoded form of one subscription. New fields must come last, because earlier versions wrote the others in this order."""

    id: str
    incarnation: int
    config: Config
    created_at: int
    streams: tuple[str, ...]
    due: dict[str, Offset]
    generation: int
    wake: Wake | None
    begun_after: int = 0
    taken: dict[str, int] = {}
    misses: dict[str, tuple[int, int]] = {}
    owner: str | None = None


_DECODER: Final = msgspec.msgpack.Decoder(_Document)


def document_name(change: SubscriptionChange) -> str:
    """Returns the name of the document that a change alters."""
    if isinstance(change, KeysKept):
        return KEYS
    if isinstance(change, News | NewsTaken):
        return NEWS
    return _PREFIX + change.id


def subscription_id(name: str) -> str:
    """Returns the id of the subscription that a document is about, from the document's name."""
    return name.removeprefix(_PREFIX)


def encode_subscription(subscription: Subscription) -> bytes:
    """Returns the document of one subscription."""
    return msgspec.msgpack.encode(
        _Document(
            subscription.id,
            subscription.incarnation,
            subscription.config,
            subscription.created_at,
            tuple(subscription.links),
            subscription.cursors,
            subscription.generation,
            subscription.wake,
            subscription.begun_after,
            subscription.taken,
            subscription.misses,
            subscription.owner,
        )
    )


def decode_subscription(document: bytes, root: str) -> Subscription:
    """Returns the subscription that a document holds, with its links below a stream root."""
    kept = _DECODER.decode(document)
    subscription = Subscription(
        kept.id, kept.incarnation, kept.config, kept.created_at, root, kept.owner
    )
    subscription.links = dict.fromkeys(kept.streams)
    subscription.due = kept.due
    subscription.move(root)
    subscription.begun_after = kept.begun_after
    subscription.taken = dict(kept.taken)
    subscription.generation = kept.generation
    subscription.wake = kept.wake
    subscription.misses = kept.misses
    return subscription
