"""Tests of the format of the write-ahead log."""

from durable_streams_server.storage.files.wal_format import CRC, HEAD, OVERHEAD, RECORD, size_of


def test_head_struct_packs_same_bytes_as_record_and_crc_structs() -> None:
    assert RECORD.size + CRC.size == HEAD.size == OVERHEAD
    fields = (1, 2, 3, 4, 5)
    assert RECORD.pack(*fields) + CRC.pack(6) == HEAD.pack(*fields, 6)


def test_size_of_a_payload_is_the_sum_of_its_parts() -> None:
    assert size_of(b"") == 0
    assert size_of(b"abc") == 3
    assert size_of((b"ab", b"", b"cde")) == 5
