"""The budget of request bodies in memory."""

import pytest

from durable_streams_server.errors import Unavailable
from durable_streams_server.http.limits.budget import ReceiveBudget


def test_budget_refuses_bytes_beyond_limit_until_earlier_bytes_are_released() -> None:
    budget = ReceiveBudget(10)
    budget.take(6)
    with pytest.raises(Unavailable) as caught:
        budget.take(5)
    assert caught.value.code == "BODIES_IN_FLIGHT"
    assert (b"retry-after", b"1") in caught.value.headers
    assert budget.held == 6
    budget.give_back(6)
    budget.take(10)
