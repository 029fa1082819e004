"""Tests of the errors that refuse writes."""

from durable_streams_server.storage.files.refusals import behind, disk_full


def test_refusal_of_a_slow_disk_is_503_and_may_be_retried_soon() -> None:
    refusal = behind()
    assert (refusal.status, refusal.code) == (503, "WRITES_BEHIND")
    assert dict(refusal.headers)[b"retry-after"] == b"1"


def test_refusal_of_a_full_disk_is_507_and_may_be_retried_later() -> None:
    refusal = disk_full()
    assert (refusal.status, refusal.code) == (507, "STORE_FULL")
    assert dict(refusal.headers)[b"retry-after"] == b"5"
