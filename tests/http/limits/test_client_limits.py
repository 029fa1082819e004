"""`ClientLimits`: what clients may take."""

import pytest

from durable_streams_server.http.limits.client_limits import ClientLimits
from durable_streams_server.protocol.subscriptions.owners import MAX_SUBSCRIPTIONS


def test_defaults_limit_live_readers_and_no_rates() -> None:
    limits = ClientLimits()
    assert limits.max_live_readers_per_client == limits.max_live_readers // 2 == 10_000
    assert not limits.has_rates


def test_one_token_may_create_half_of_all_subscriptions_by_default() -> None:
    assert ClientLimits().max_subscriptions_per_token == MAX_SUBSCRIPTIONS // 2


@pytest.mark.parametrize("name", ["max_appends_per_second", "max_bytes_per_second"])
def test_either_rate_counts_appends(name: str) -> None:
    assert ClientLimits(**{name: 1}).has_rates


@pytest.mark.parametrize("name", ClientLimits.__struct_fields__)
def test_limit_below_1_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is 0, but must be at least 1$"):
        ClientLimits(**{name: 0})
    assert getattr(ClientLimits(**{name: 1}), name) == 1


@pytest.mark.parametrize("name", ClientLimits.__struct_fields__)
@pytest.mark.parametrize("value", [1.5, "1", True])
def test_limit_that_is_no_whole_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be"):
        ClientLimits(**{name: value})  # type: ignore[arg-type]  # on purpose
