"""Each client may send only so many appends and bytes in a second (TRAPS 51, 53)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import TooManyRequests
from durable_streams_server.http.limits import rates as rates_module
from durable_streams_server.http.limits.rates import Rates
from durable_streams_server.protocol.token_bucket import BURST
from durable_streams_server.protocol.units import NANOSECONDS
from tests.http.socket_driver import until


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = NANOSECONDS

    def __call__(self) -> int:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += round(seconds * NANOSECONDS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refusal(rates: Rates, client: str, size: int = 1, **limits: int) -> tuple[str, int] | None:
    """Returns the code and the Retry-After of the refusal of an append, or None if it is counted."""
    try:
        rates.take(client, size, **limits)
    except TooManyRequests as error:
        return error.code, int(dict(error.headers)[b"retry-after"])
    return None


async def test_client_is_refused_above_its_appends_per_second(clock: Clock) -> None:
    rates = Rates(10, None, clock)
    assert [refusal(rates, "a") for _ in range(50)] == [None] * 50  # the burst of five seconds
    assert refusal(rates, "a") == ("TOO_MANY_APPENDS", 1)
    assert refusal(rates, "b") is None
    clock.pass_(0.1)
    assert refusal(rates, "a") is None
    assert refusal(rates, "a") == ("TOO_MANY_APPENDS", 1)
    clock.pass_(1)
    assert [refusal(rates, "a") for _ in range(10)] == [None] * 10
    assert refusal(rates, "a") is not None
    assert (rates.appends_refused, rates.octets_refused) == (3, 0)


async def test_client_is_refused_above_its_bytes_per_second(clock: Clock) -> None:
    rates = Rates(None, 1000, clock)
    assert refusal(rates, "a", 5000) is None
    assert refusal(rates, "a", 1) == ("TOO_MANY_BYTES", 1)
    assert refusal(rates, "a", 2500) == ("TOO_MANY_BYTES", 3)
    assert refusal(rates, "a", 0) is None  # closing a stream has no bytes
    clock.pass_(3)
    assert refusal(rates, "a", 2500) is None
    assert (rates.appends_refused, rates.octets_refused) == (0, 2)


async def test_body_above_the_burst_passes_once_the_bucket_is_full(clock: Clock) -> None:
    rates = Rates(None, 1000, clock)
    assert refusal(rates, "a", 60_000) is None
    assert refusal(rates, "a", 60_000) == ("TOO_MANY_BYTES", 60)
    clock.pass_(60)
    assert refusal(rates, "a", 60_000) is None


async def test_refused_append_counts_against_neither_limit(clock: Clock) -> None:
    rates = Rates(1, 100, clock)
    assert refusal(rates, "a", 500) is None
    assert refusal(rates, "a", 200) == ("TOO_MANY_BYTES", 2)
    assert [refusal(rates, "a", 0) for _ in range(4)] == [None] * 4
    assert refusal(rates, "a", 300) == ("TOO_MANY_APPENDS", 3)  # the longer of both waits


async def test_retry_after_is_exact(clock: Clock) -> None:
    rates, numbers = Rates(None, 7, clock), random.Random(7)
    for _ in range(100):
        refused = refusal(rates, "a", numbers.randrange(1, 50))
        if refused is None:
            continue
        size = 35
        told = refusal(rates, "a", size)
        assert told is not None
        clock.pass_(told[1] - 1.001)
        assert refusal(rates, "a", size) is not None
        clock.pass_(1.001)
        assert refusal(rates, "a", size) is None


async def test_limits_of_a_client_replace_the_defaults(clock: Clock) -> None:
    rates = Rates(1, 10, clock)
    assert [refusal(rates, "a", 1, appends=4, octets=1000) for _ in range(20)] == [None] * 20
    assert refusal(rates, "a", 1, appends=4, octets=1000) == ("TOO_MANY_APPENDS", 1)
    without = Rates(None, None, clock)
    assert refusal(without, "a", 50, octets=10) is None
    assert refusal(without, "a", 1, octets=10) == ("TOO_MANY_BYTES", 1)


async def test_check_refuses_like_take_and_counts_nothing(clock: Clock) -> None:
    rates = Rates(1, 100, clock)
    for _ in range(10):
        rates.check("a", 500)
    assert len(rates) == 0
    for _ in range(5):
        rates.take("a", 100)
    for size, code in ((0, "TOO_MANY_APPENDS"), (1, "TOO_MANY_APPENDS")):
        with pytest.raises(TooManyRequests) as refused:
            rates.check("a", size)
        assert refused.value.code == code
    clock.pass_(1)
    rates.check("a", 100)
    with pytest.raises(TooManyRequests) as refused:
        rates.check("a", 101)
    assert refused.value.code == "TOO_MANY_BYTES"


async def test_client_whose_buckets_are_full_is_forgotten(clock: Clock) -> None:
    """TRAPS 53"""
    rates = Rates(10, 1000, clock)
    for number in range(2500):
        rates.take(str(number), 10)
    rates.take("greedy", 10_000)
    clock.pass_(0.1)
    for _ in range(3):
        rates.sweep()
    assert len(rates) == 1
    clock.pass_(9.8)
    rates.sweep()
    assert len(rates) == 1
    clock.pass_(0.1)
    rates.sweep()
    assert len(rates) == 0


async def test_clients_are_forgotten_without_another_append(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRAPS 53"""
    monkeypatch.setattr(rates_module, "_SWEEP", 0.001)
    rates = Rates(10, None, clock)
    rates.take("a", 1)
    rates.take("b", 1)
    assert rates._timer is not None
    clock.pass_(1)
    await until(lambda: len(rates) == 0)
    assert rates._timer is None
    rates.take("a", 1)
    assert rates._timer is not None


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Sets the maximum number of clients to 100, and that of shared buckets to 8."""
    monkeypatch.setattr(rates_module, "MAX_RATED_CLIENTS", 100)
    monkeypatch.setattr(rates_module, "_SHARED", 8)
    return 100


@pytest.mark.parametrize("is_first", [True, False])
async def test_flood_of_addresses_neither_grows_memory_nor_frees_a_limited_client(
    clock: Clock, few: int, is_first: bool
) -> None:
    """TRAPS 53"""
    rates = Rates(1, None, clock)
    for number in range(0 if is_first else 3 * few):
        refusal(rates, f"before {number}")
    while refusal(rates, "greedy") is None:
        pass
    for number in range(10 * few):
        refusal(rates, str(number))
        refusal(rates, str(number))
    assert len(rates) == few
    assert len(rates._shared) == 8
    assert refusal(rates, "greedy") is not None
    with pytest.raises(TooManyRequests):
        rates.check("greedy", 1)


async def test_client_gets_buckets_of_its_own_again_after_a_flood(clock: Clock, few: int) -> None:
    rates = Rates(1, None, clock)
    for number in range(2 * few):
        refusal(rates, str(number))
    for _ in range(5):
        refusal(rates, "new")
    assert refusal(rates, "new") is not None
    clock.pass_(10)
    rates.check("new", 1)  # its shared buckets are full again
    assert refusal(rates, "new") is None
    assert len(rates) < few
    clock.pass_(10)
    rates.sweep()
    assert (len(rates), rates._shared) == (0, [])


async def test_room_is_made_for_a_new_client_where_buckets_are_full_again(
    clock: Clock, few: int
) -> None:
    rates = Rates(10, None, clock)
    for number in range(few):
        rates.take(str(number), 1)
    clock.pass_(1)
    rates.take("new", 1)
    assert rates._shared == []
    assert len(rates) == few - 3


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 400), st.integers(0, BURST // 4)),
        max_size=60,
    ),
)
def test_counts_are_those_of_a_limiter_that_forgets_nothing(
    steps: list[tuple[str, int, int]],
) -> None:
    clock = Clock()
    forgetful, mindful = Rates(2, 100, clock), Rates(2, 100, clock)
    for each in (forgetful, mindful):
        each._schedule = lambda: None  # type: ignore[method-assign]  # there is no event loop here
    for client, size, pause in steps:
        clock.now += pause
        forgetful.sweep()
        assert refusal(forgetful, client, size) == refusal(mindful, client, size)
