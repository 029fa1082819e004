"""Tests of the refusal of requests for a damaged stream."""

import pytest

from durable_streams_server.storage.damage import Damaged, refusal_of


def test_error_of_damaged_stream_hides_details_but_log_has_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusal = refusal_of(Damaged("logs/ab/1: record 7 is torn"))
    assert (refusal.status, refusal.code) == (500, "STREAM_DAMAGED")
    assert "logs/ab" not in str(refusal)
    assert caplog.messages == ["a stream is damaged: logs/ab/1: record 7 is torn"]
