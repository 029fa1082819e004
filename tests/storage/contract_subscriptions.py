"""Contract tests of subscriptions, wakes and keys."""

from typing import cast

import pytest

from durable_streams_server.errors import (
    AlreadyClaimed,
    Conflict,
    Fenced,
    NotFound,
    TooManyRequests,
)
from durable_streams_server.protocol import offsets
from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.state import (
    Appended,
)
from durable_streams_server.protocol.subscriptions.changes import CursorsMoved, WakeChanged
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    KeepKeys,
    Unsubscribe,
    parse_subscribe,
)
from durable_streams_server.protocol.subscriptions.outcomes import AckOutcome, KeysOutcome
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.store import Published, Store
from tests.protocol.subscriptions.world import JSON, POOL, A, B, subscribe
from tests.requests import NOW, append, create
from tests.storage.contract_base import ContractBase, settled


class SubscriptionContract(ContractBase):
    """Tests of subscriptions, wakes and keys."""

    async def create_subscription(self, store: Store) -> None:
        """Creates a wake stream, two other streams, and a pull-wake subscription to those two."""
        for path in (POOL, A, B):
            await self.run(store, create(path, JSON))
        await self.run(store, subscribe())

    def subscription(self, store: Store, id_: str = "s") -> Subscription:
        found = store.subscriptions.get(id_)
        assert found is not None
        return found

    async def test_append_and_its_wake_are_published_together(self, store: Store) -> None:
        await self.create_subscription(store)
        heard: list[list[Published]] = []
        store.listen(lambda published: heard.append(list(published)))
        await self.run(store, append(A, b"1", JSON))
        (record,) = heard
        assert [type(item.change) for item in record] == [
            Appended,
            CursorsMoved,
            WakeChanged,
            Appended,
        ]
        assert [item.state is None for item in record] == [False, True, True, False]
        event = (await self.content(store, POOL)).decode()
        assert '"subscription_id":"s","stream":"events/a","generation":1' in event

    async def test_final_acknowledgement_of_claim_ends_the_wake(self, store: Store) -> None:
        await self.create_subscription(store)
        await self.run(store, append(A, b"1", JSON))
        view = cast(View, await self.run(store, Claim("s", "w")))
        await self.refused(store, Claim("s", "v"), AlreadyClaimed)
        (stream,) = view.streams
        assert view.wake is not None
        ack = Acknowledge(
            view.grant, 1, view.wake.wake_id, ((A, offsets.parse(stream.tail)),), True
        )
        assert await self.run(store, ack) == AckOutcome(next_wake=False)
        await self.refused(store, ack, Fenced)
        await self.refused(store, Claim("s", "v"), Conflict)
        subscription = self.subscription(store)
        assert (subscription.wake, subscription.due, subscription.generation) == (None, {}, 1)

    async def test_refused_command_of_a_subscription_changes_nothing(self, store: Store) -> None:
        await self.create_subscription(store)
        await self.run(store, append(A, b"1", JSON))
        heard: list[Published] = []
        store.listen(heard.extend)
        await self.refused(store, subscribe(description="other"), Conflict)
        await self.refused(store, Claim("t", "w"), NotFound)
        await self.run(store, subscribe())
        assert heard == []
        assert self.subscription(store).config.description is None

    async def test_subscription_created_after_delete_is_another_incarnation(
        self, store: Store
    ) -> None:
        await self.run(store, subscribe())
        first = self.subscription(store).incarnation
        await self.run(store, Unsubscribe("s"))
        assert store.subscriptions.get("s") is None
        await self.run(store, subscribe())
        second = self.subscription(store).incarnation
        await self.run(store, create("/a"))
        assert first < second < (await self.state(store, "/a")).incarnation

    async def test_owner_may_have_as_many_subscriptions_as_its_limit(self, store: Store) -> None:
        for id_ in "abc":
            await self.run(store, subscribe(id_, "token:me", 3))
        await self.run(store, subscribe("other", "token:other", 3))
        refusal = await self.refused(store, subscribe("d", "token:me", 3), TooManyRequests)
        assert refusal.code == "TOO_MANY_SUBSCRIPTIONS_OF_TOKEN"
        assert store.subscriptions.owners.counts == {"token:me": 3, "token:other": 1}
        await self.run(store, subscribe("a", "token:other", 1))  # confirms the one that is there
        assert self.subscription(store, "a").owner == "token:me"
        await self.run(store, Unsubscribe("a"))
        await self.run(store, subscribe("d", "token:me", 3))
        assert store.subscriptions.owners.counts == {"token:me": 3, "token:other": 1}

    async def test_subscriptions_in_flight_count_for_their_owner(self, store: Store) -> None:
        tickets = [store.execute(subscribe(id_, "token:me", 2), NOW) for id_ in "abc"]
        removal = store.execute(Unsubscribe("a"), NOW)
        replacement = store.execute(subscribe("d", "token:me", 2), NOW)
        for ticket in (*tickets[:2], removal, replacement):
            await settled(ticket)
        with pytest.raises(TooManyRequests):
            await settled(tickets[2])
        assert sorted(each.id for each in store.subscriptions) == ["b", "d"]
        assert store.subscriptions.owners.counts == {"token:me": 2}

    async def test_keys_are_replaced_only_if_command_names_the_current_keys(
        self, store: Store
    ) -> None:
        one, two = (Key(name, b"s" * 32, b"t" * 32, NOW) for name in ("one", "two"))
        assert await self.run(store, KeepKeys((one,), ())) == KeysOutcome((one,))
        assert await self.run(store, KeepKeys((two,), ())) == KeysOutcome((one,))
        assert await self.run(store, KeepKeys((two, one), ("one",))) == KeysOutcome((two, one))
        assert store.subscriptions.keys == (two, one)

    async def test_patterns_match_paths_below_the_stream_root(self, store: Store) -> None:
        store.configure(None, "/x")
        await self.run(store, create("/x/events/a", JSON, b"1"))
        await self.run(store, create(A, JSON))
        command = parse_subscribe(
            "s", b'{"type":"pull-wake","pattern":"events/*","wake_stream":"w"}', "/x"
        )
        await self.run(store, command)
        await self.run(store, append("/x/events/a", b"2", JSON))
        await self.run(store, append(A, b"2", JSON))
        assert list(self.subscription(store).due) == ["/x/events/a"]
