"""Tests of the errors that several rules of streams raise."""

from durable_streams_server.protocol.refusals import stream_damaged, stream_not_found


def test_missing_stream_has_status_404() -> None:
    assert (stream_not_found().status, stream_not_found().code) == (404, "STREAM_NOT_FOUND")


def test_damaged_stream_has_status_500() -> None:
    assert (stream_damaged().status, stream_damaged().code) == (500, "STREAM_DAMAGED")
