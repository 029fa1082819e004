"""Tests that checksums equal those of zlib, so that data of earlier versions stays readable."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.storage.files.checksum import crc32


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_checksum_equals_that_of_zlib(data: bytes, before: int) -> None:
    assert crc32(data) == zlib.crc32(data)
    assert crc32(data, before) == zlib.crc32(data, before)
    assert crc32(memoryview(data)[1:], before) == zlib.crc32(data[1:], before)


def test_checksum_of_five_megabytes_equals_that_of_zlib() -> None:
    data = bytes(range(251)) * 20_000
    assert crc32(data, 7) == zlib.crc32(data, 7)
