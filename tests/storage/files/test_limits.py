"""Tests of the file store's memory limits."""

import pytest

from durable_streams_server.storage.files.limits import FLUSH_BYTES, MAX_UNFLUSHED, Limits


@pytest.mark.parametrize(
    ("max_unflushed", "flush_bytes"),
    [(MAX_UNFLUSHED, FLUSH_BYTES), (8_000, 3_000), (1 << 40, FLUSH_BYTES)],
)
def test_checkpoint_is_due_below_limit_of_unflushed_bytes(
    max_unflushed: int, flush_bytes: int
) -> None:
    assert Limits(max_unflushed=max_unflushed).flush_bytes == flush_bytes < max_unflushed
