"""Helpers that run a checkpoint step by step, and that fill a store with subscriptions."""

from collections.abc import Iterator

from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.subscriptions.commands import (
    Claim,
    Grant,
    KeepKeys,
    Link,
    Undelivered,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from durable_streams_server.storage.files.checkpoint import Where
from durable_streams_server.storage.files.store import FileStore
from tests.protocol.subscriptions.world import JSON, POOL, A, B, subscribe
from tests.requests import NOW, SECOND, append, create
from tests.storage.files.stores import run

TEXT = "text/plain"
KEY = Key("kid", b"s" * 32, b"t" * 32, NOW)


def advance_to(steps: Iterator[Where], store: FileStore, where: Where) -> None:
    """Runs a checkpoint's steps until the next one must run at a given place."""
    for following in steps:
        if following is where:
            return
        if following is Where.DURABLE:
            store.commit_once()


def finish(steps: Iterator[Where], store: FileStore) -> None:
    """Runs a checkpoint's remaining steps."""
    for where in steps:
        if where is Where.DURABLE:
            store.commit_once()


def add_subscriptions(store: FileStore) -> None:
    """Adds a subscription that is linked, woken and claimed, one with a backlog, one that is deleted, and keys."""
    run(store, create(POOL, JSON), create(A, JSON), create(B, JSON), KeepKeys((KEY,), ()))
    run(store, subscribe("s", "token:s"), subscribe("t", type="webhook"), subscribe("u", "token:s"))
    run(store, append(A, b"1", JSON), append(B, b"1", JSON))
    run(store, Claim("s", "w"), Link("s", (B,)), Unsubscribe("u"))
    grant = Grant("t", subscription_of(store, "t").incarnation, 1)
    run(store, Undelivered(grant, NOW + SECOND, "refused", None))


def subscription_of(store: FileStore, id_: str) -> Subscription:
    found = store.subscriptions.get(id_)
    assert found is not None
    return found


def documents_of(store: FileStore) -> dict[str, bytes | None]:
    """Returns the documents of a store's keys and subscriptions."""
    names = ("keys", *(f"subscription/{id_}" for id_ in "stuv"))
    return {name: store.subscriptions.document(name) for name in names}
