"""Tests of an LMDB catalog whose files are damaged, and of a disk that stores only part of a commit."""

import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams_server.protocol.producers import ProducerState
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog import LmdbCatalog, Put
from durable_streams_server.storage.files.catalog.tables import DEADLINES
from tests.requests import NOW, SECOND

from .values import META, entry_of_empty_stream


def test_flipped_bit_in_entry_prevents_opening(tmp_path: Path) -> None:  # TRAPS 8
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(
        META, [Put("/needle", entry_of_empty_stream(5), {b"needle-too": ProducerState(0, 0)})], []
    )
    catalog.close()
    file = tmp_path / "data.mdb"
    whole = file.read_bytes()
    chance = random.Random(0)
    at = whole.index(b"/needle") + len(b"/needle")
    for _ in range(100):
        broken = bytearray(whole)
        broken[at + chance.randrange(20)] ^= 1 << chance.randrange(8)
        file.write_bytes(broken)
        with pytest.raises(Damaged, match="damaged"):
            LmdbCatalog(str(tmp_path))


def test_damaged_deadline_is_logged_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [Put(f"/{n}", entry_of_empty_stream(5 + n, 10), {}) for n in range(3)], [])
    key = struct.pack(">QQ", NOW + 10 * SECOND, 6)
    catalog._tables.write(lambda writing: writing.store(DEADLINES, key, b"????/1"), lambda _: None)
    found = catalog.deadlines((0, 0), NOW + 10 * SECOND, 9)
    assert [path for _, _, path in found] == ["/0", "/2"]
    assert "damaged" in caplog.text
    catalog.close()


@pytest.mark.parametrize("size", [1, 4096, 9000, 40_000])
def test_truncated_database_prevents_opening(tmp_path: Path, size: int) -> None:  # TRAPS 8
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(
        META, [Put(f"/{number}", entry_of_empty_stream(number), {}) for number in range(500)], []
    )
    catalog.close()
    file = tmp_path / "data.mdb"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(Damaged):
        LmdbCatalog(str(tmp_path))


FULL = """
import errno, resource, sys
from durable_streams_server.storage.files.catalog import LmdbCatalog, Meta
path, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
catalog = LmdbCatalog(path)
number = 0
try:
    while True:
        number += 1
        catalog.commit(Meta(number), [], [], {f"d{number}/{part}": b"x" * 1500 for part in range(9)})
except OSError as error:
    assert error.errno in (errno.ENOSPC, errno.EFBIG), error
assert catalog.meta().lsn == number - 1
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
catalog.commit(Meta(number), [], [], {"more": b"x" * 5000})
catalog.close()
catalog = LmdbCatalog(path)
assert catalog.meta().lsn == number
assert len(list(catalog.documents())) == 9 * (number - 1) + 1
print("whole")
"""


@pytest.mark.parametrize("limit", [200_000, 235_000, 284_000])
def test_partly_written_commit_is_reported_as_full_disk(tmp_path: Path, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "whole\n", done.stderr
