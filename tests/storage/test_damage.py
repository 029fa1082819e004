"""Tests of the refusal of requests for a damaged stream."""

import pytest

from durable_streams_server.storage.damage import Damaged, refusal_of


def test_refusal_of_damage_hides_the_details_that_the_log_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusal = refusal_of(Damaged("logs/ab/1: record 7 is torn"))
    assert (refusal.status, refusal.code) == (500, "STREAM_DAMAGED")
    assert "logs/ab" not in str(refusal)
    assert caplog.messages == ["a stream is damaged: logs/ab/1: record 7 is torn"]
