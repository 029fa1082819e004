"""Tests of the CRC in front of each value, and of the encoding of operations."""

import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog.entries import UNCOUNTED, Meta
from durable_streams_server.storage.files.catalog.tables import (
    META_KEY,
    NAMES,
    Operation,
    encode_put,
    is_sealed,
    operations,
    parse_meta,
    seal,
    unseal,
)


def test_unseal_returns_value_without_crc() -> None:
    assert unseal(b"key", seal(b"key", b"value")) == b"value"
    assert unseal(b"key", seal(b"key", b"")) == b""


def test_unseal_raises_damaged_if_key_or_value_has_flipped_bit() -> None:
    sealed = seal(b"key", b"value")
    for at in range(len(sealed)):
        for bit in range(8):
            broken = bytearray(sealed)
            broken[at] ^= 1 << bit
            assert not is_sealed(b"key", bytes(broken))
    assert not is_sealed(b"kez", sealed)
    for size in range(len(sealed)):
        assert not is_sealed(b"key", sealed[:size])
    with pytest.raises(Damaged, match="the entry of b'kez' is damaged"):
        unseal(b"kez", sealed)


def test_encoded_operations_are_decoded() -> None:
    written = [
        Operation(table, b"k%d" % table, seal(b"k%d" % table, b"v" * table))
        for table in range(len(NAMES))
    ]
    payload = b"".join(
        encode_put(table, key, sealed) for table, key, sealed in written if sealed is not None
    )
    assert list(operations(payload)) == written
    for size in range(1, len(encode_put(1, b"k", seal(b"k", b"v")))):
        with pytest.raises(Damaged, match="cut off"):
            list(operations(payload[:-size]))


def test_operation_on_unknown_table_raises_damaged() -> None:
    with pytest.raises(Damaged, match="names no table"):
        list(operations(encode_put(len(NAMES), b"k", b"v")))


def test_metadata_of_first_format_has_no_commits() -> None:
    assert parse_meta(None) == Meta(stored=0)
    assert parse_meta(seal(META_KEY, b"\x94\x07\x09\x01\x02")) == Meta(7, 9, 1, 2, stored=UNCOUNTED)
    with pytest.raises(Damaged, match="cannot be understood"):
        parse_meta(seal(META_KEY, b"\xc1"))
    with pytest.raises(Damaged, match="damaged"):
        parse_meta(b"")
