"""Adds the limits of an application to its `LimitTable`. A server adds the limits that only it knows, such as that of its connections."""

from __future__ import annotations

import math

from ...protocol.subscriptions.owner_counts import OwnerCounts
from ...protocol.subscriptions.owners import MAX_SUBSCRIPTIONS
from ...storage.files.store import FileStore
from ...streams.engine import Engine
from ...subscriptions.service import Service
from ...subscriptions.slots import MAX_DELIVERIES
from ..limits.budget import ReceiveBudget
from ..limits.client_limits import ClientLimits
from ..limits.live_readers import LiveReaders
from ..limits.rates import MAX_RATED_CLIENTS, Rates
from .limit_table import LimitTable


def add_client_limits(
    table: LimitTable,
    readers: LiveReaders,
    rates: Rates,
    owners: OwnerCounts,
    clients: ClientLimits,
) -> None:
    """Adds the limits of an application's clients. The use of a limit per stream, client or token is that of the one that uses most.

    Args:
        table: the table.
        readers: counts live reads.
        rates: counts appends.
        owners: counts the subscriptions of each token.
        clients: the limits of clients.
    """
    most_of_token = clients.max_subscriptions_per_token
    table.add("live_readers", lambda: readers.limit, lambda: readers.used)
    table.add(
        "live_readers_of_one_stream", lambda: readers.per_stream, lambda: readers.most_of_one_stream
    )
    table.add(
        "live_readers_of_one_client", lambda: readers.per_client, lambda: readers.most_of_one_client
    )
    table.add("rated_clients", lambda: MAX_RATED_CLIENTS, lambda: len(rates))
    table.add("subscriptions_of_one_token", lambda: most_of_token, lambda: owners.most)
    table.add_refusals("live_readers", lambda: readers.refused)
    table.add_refusals("appends_per_second", lambda: rates.appends_refused)
    table.add_refusals("bytes_per_second", lambda: rates.octets_refused)


def add_own_limits(
    table: LimitTable, engine: Engine, service: Service, budget: ReceiveBudget
) -> None:
    """Adds the limits of an application's engine, store, subscriptions and receive budget."""
    sending = engine.sending
    table.add("in_flight_bytes", lambda: budget.limit, lambda: budget.held)
    table.add("unsent_bytes", lambda: sending.limit, lambda: sending.held)
    table.add("deliveries", lambda: MAX_DELIVERIES, lambda: service.deliveries_running)
    store = engine.store
    table.add("streams", lambda: _limit(store.quota.max_streams), lambda: store.usage.streams)
    table.add(
        "stream_bytes", lambda: _limit(store.quota.max_total_bytes), lambda: store.usage.bytes
    )
    table.add("subscriptions", lambda: MAX_SUBSCRIPTIONS, lambda: len(store.subscriptions))
    if not isinstance(store, FileStore):
        return
    ledger, wal = store.ledger, store.wal
    table.add("unflushed_bytes", lambda: ledger.max_unflushed, lambda: ledger.unflushed)
    table.add("dirty_streams", lambda: ledger.max_dirty, lambda: ledger.dirty_count)
    table.add(
        "fresh_producers", lambda: ledger.max_fresh_producers, lambda: ledger.states.tally.all
    )
    table.add("wal_bytes", lambda: wal.limit, lambda: wal.used)


def _limit(most: int | None) -> float:
    """Returns a limit as a number: infinity if there is none."""
    return math.inf if most is None else most
