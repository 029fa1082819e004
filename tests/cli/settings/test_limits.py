"""Limits that contradict each other."""

import pytest

from durable_streams_server.cli.settings.loading import BadSettings, load_settings


def test_body_limit_may_reach_but_not_exceed_the_limit_of_all_bodies() -> None:
    assert load_settings(["--max-body", "10", "--max-in-flight", "10"], {})
    with pytest.raises(BadSettings) as refused:
        load_settings(["--max-body", "11"], {"DURABLE_STREAMS_MAX_IN_FLIGHT": "10"})
    assert refused.value.message == (
        "--max-body 11 is above DURABLE_STREAMS_MAX_IN_FLIGHT 10: such a body could never be taken"
    )
