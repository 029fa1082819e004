"""Helpers that open, write and recover small write-ahead logs."""

import random

from durable_streams_server.storage.files.wal import Wal
from durable_streams_server.testing.disk import SimulatedDisk

#: The size of a segment in bytes.
SEGMENT = 16 * 1024


def new(disk: SimulatedDisk | None = None) -> tuple[SimulatedDisk, Wal]:
    """Returns a disk and an empty log on it that is ready for records."""
    disk = disk or SimulatedDisk(random.Random(0))
    wal = Wal(disk, SEGMENT)
    assert list(wal.recover(0)) == []
    wal.add_file()
    return disk, wal


def write(wal: Wal, *payloads: bytes) -> None:
    """Writes records as one batch, and sets the durable LSN to the last of them."""
    batch = []
    for payload in payloads:
        if wal.wants_file():
            wal.add_file()
        batch.append((wal.reserve(len(payload)), payload))
    wal.write(wal.encode(batch))
    wal.durable_lsn = wal.last_lsn


def read(disk: SimulatedDisk, after: int = 0) -> list[tuple[int, bytes]]:
    """Recovers a log, and returns the number and payload of each record after LSN `after`."""
    return list(Wal(disk, SEGMENT).recover(after))
