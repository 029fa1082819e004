"""Tests of the server's own commands: ends of leases, and signing keys."""

from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.subscriptions.commands import KeepKeys, Tend
from durable_streams_server.protocol.subscriptions.outcomes import KeysOutcome
from tests.protocol.subscriptions.world import LEASE, A, World
from tests.requests import NOW


def test_tend_ends_a_wake_only_after_its_lease(woken: World) -> None:
    woken.claim()
    lapse = Tend("s")
    woken.forward(LEASE - 1)
    assert woken.decide(lapse).changes == ()
    woken.forward(1)
    woken.do(lapse)
    assert (woken.subscription().generation, woken.wake().holder) == (2, None)
    assert woken.decide(lapse).changes == ()
    assert len(woken.events()) == 2


def test_tend_after_the_lease_begins_no_wake_without_unread_bytes(woken: World) -> None:
    woken.claim()
    woken.do(woken.acknowledging((A, woken.tail(A))))
    woken.forward(LEASE)
    woken.do(Tend("s"))
    assert woken.subscription().wake is None


OLD = Key("old", b"a" * 32, b"b" * 32, NOW)


NEW = Key("new", b"c" * 32, b"d" * 32, NOW)


def test_new_keys_are_stored_only_if_the_command_names_the_present_keys(world: World) -> None:
    assert world.decide(KeepKeys((OLD,), ())).outcome == KeysOutcome((OLD,))
    late = world.decide(KeepKeys((NEW,), ()))
    assert (late.changes, late.outcome) == ((), KeysOutcome((OLD,)))
    assert world.decide(KeepKeys((NEW, OLD), ("old",))).outcome == KeysOutcome((NEW, OLD))
    again = world.decide(KeepKeys((OLD,), ("old",)))
    assert (again.changes, again.outcome) == ((), KeysOutcome((NEW, OLD)))
    assert world.subscriptions.keys == (NEW, OLD)
