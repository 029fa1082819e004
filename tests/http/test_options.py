"""`HandlerOptions`: settings out of range are refused when the application is created."""

from typing import Any

import pytest

from durable_streams_server.http.options import LONGEST_CACHE_AGE, HandlerOptions


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"body_timeout": 0}, "body_timeout must be above zero"),
        ({"body_timeout": float("inf")}, "body_timeout must be above zero"),
        ({"body_timeout": float("nan")}, "body_timeout must be above zero"),
        ({"shared_cache_age": -1}, "shared_cache_age must be"),
        ({"shared_cache_age": LONGEST_CACHE_AGE + 1}, "shared_cache_age must be"),
        ({"max_body": 0}, "max_body must be at least 1"),
        ({"max_body": 11, "max_in_flight": 10}, "must not be above max_in_flight"),
    ],
)
def test_option_out_of_range_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HandlerOptions(**settings)


def test_options_at_their_limits_are_accepted() -> None:
    options = HandlerOptions(max_body=10, max_in_flight=10, shared_cache_age=LONGEST_CACHE_AGE)
    assert options.max_body == options.max_in_flight == 10
