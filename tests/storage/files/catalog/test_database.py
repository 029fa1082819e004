"""Tests of the tables in LMDB: a map that begins small and grows during reads, and errors that never look like missing entries."""

import errno
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog.database import (
    DATA,
    LOCKS,
    SMALLEST_MAP,
    Database,
    NoTablesYet,
    structure_faults,
)
from durable_streams_server.storage.files.catalog.tables import (
    DOCUMENTS,
    NAMES,
    STREAMS,
    WriteTransaction,
)

MIB = 1024 * 1024
ROOT = Path(__file__).parents[4]


def store(database: Database, count: int, size: int = 1000, first: int = 0) -> None:
    def fill(transaction: WriteTransaction) -> None:
        for number in range(first, first + count):
            transaction.put(STREAMS, b"/%08d" % number, b"x" * size)

    database.write(fill, lambda _: None)


def test_memory_map_grows_with_database_file(tmp_path: Path) -> None:
    database = Database(str(tmp_path), smallest_map=MIB)
    assert database.map_size < 2 * MIB
    store(database, 100)
    calls = []

    def fill(transaction: WriteTransaction) -> None:
        calls.append("fill")
        for number in range(5000):
            transaction.put(DOCUMENTS, b"%08d" % number, b"y" * 1000)

    database.write(fill, lambda _: None)
    assert len(calls) > 1  # the transaction started over after the map had grown
    assert database.map_size > 5 * MIB
    assert len(database.scan(DOCUMENTS, b"", 9999)) == 5000
    assert len(database.scan(STREAMS, b"", 9999)) == 100
    database.close()
    again = Database(str(tmp_path))
    assert again.map_size == SMALLEST_MAP
    assert len(again.scan(DOCUMENTS, b"", 9999)) == 5000
    again.close()


def test_readers_get_correct_data_while_memory_map_grows(tmp_path: Path) -> None:
    database = Database(str(tmp_path), smallest_map=MIB)
    store(database, 300)
    begun, done = threading.Barrier(3), threading.Event()
    wrong: list[object] = []

    def read() -> None:
        begun.wait()
        while not done.is_set():
            found = database.scan(STREAMS, b"/", 300)
            if [key for key, _ in found] != [b"/%08d" % number for number in range(300)]:
                wrong.append(found)
            if database.get(STREAMS, b"/00000042") is None:
                wrong.append("absent")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    begun.wait()
    sizes = set()
    for number in range(60):
        store(database, 400, first=1000 + 400 * number)
        sizes.add(database.map_size)
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(sizes) > 3
    database.close()


def test_database_created_with_large_memory_map_opens_with_small_one(tmp_path: Path) -> None:
    old = lmdb.open(str(tmp_path), map_size=1 << 40, max_dbs=6)
    for name in NAMES:
        old.open_db(name.encode())
    with old.begin(old.open_db(b"documents"), write=True) as transaction:
        transaction.put(b"key", b"value")
    old.close()
    database = Database(str(tmp_path))
    assert database.map_size == SMALLEST_MAP
    assert database.get(DOCUMENTS, b"key") == b"value"
    database.close()


LIMITED = """
import resource, sys
from tests.storage.files.catalog.test_database import limit_memory, store
from durable_streams_server.storage.files.catalog.database import Database
from durable_streams_server.storage.files.catalog.tables import scan_all
room, first, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
limit_memory(room)
database = Database(path, smallest_map=first)
written = 0
try:
    while written < 60:
        store(database, 1000, first=1000 * written)
        written += 1
except OSError as error:
    print(error.errno, error.strerror)
print(written, sum(1 for _ in scan_all(database, 1)))
"""


def limit_memory(room: int) -> None:
    """Limits the address space of this process to what it uses now plus `room` bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run_limited(path: Path, room: int, first: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(room), str(first), str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS of Linux")
def test_write_raises_enospc_if_memory_map_exceeds_address_space(tmp_path: Path) -> None:
    *full, last = run_limited(tmp_path, 60 * MIB, SMALLEST_MAP)
    assert full == [f"{errno.ENOSPC} there is no room in memory for a larger map"]
    written, found = map(int, last.split())
    assert 15 < written < 60  # the map grew past the 16 MiB with which it began
    assert found == 1000 * written  # all written entries can still be read


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS of Linux")
def test_opening_without_address_space_raises_enomem(tmp_path: Path) -> None:
    Database(str(tmp_path)).close()
    script = LIMITED.replace("database = Database(path, smallest_map=first)", OPEN_ONLY)
    done = subprocess.run(
        [sys.executable, "-c", script, str(MIB // 2), "0", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"{errno.ENOMEM} there is no room in memory for the catalog's map\n"


OPEN_ONLY = """
try:
    Database(path, smallest_map=1 << 40)
except OSError as error:
    print(error.errno, error.strerror)
sys.exit()
"""


def test_damaged_lock_file_is_recreated(tmp_path: Path) -> None:
    database = Database(str(tmp_path))
    store(database, 3)
    database.close()
    for data in (b"", b"\xff" * 8192, bytes(100)):
        (tmp_path / LOCKS).write_bytes(data)
        again = Database(str(tmp_path))
        assert len(again.scan(STREAMS, b"", 9)) == 3
        again.close()


def test_readonly_database_creates_no_file_and_refuses_writes(tmp_path: Path) -> None:
    Database(str(tmp_path)).close()
    (tmp_path / LOCKS).unlink()
    database = Database(str(tmp_path), readonly=True)
    with pytest.raises(OSError, match="read-only") as raised:
        store(database, 1)
    assert raised.value.errno == errno.EROFS
    database.close()
    assert [file.name for file in tmp_path.iterdir()] == [DATA]


def test_database_without_tables_opens_only_for_writing(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path), max_dbs=6)
    environment.open_db(b"meta")  # a crash here leaves one table
    environment.close()
    with pytest.raises(NoTablesYet):
        Database(str(tmp_path), readonly=True)
    database = Database(str(tmp_path))
    store(database, 1)
    database.close()


def test_database_with_missing_or_unknown_table_is_damaged(tmp_path: Path) -> None:
    database = Database(str(tmp_path))
    store(database, 1)
    database.close()
    environment = lmdb.open(str(tmp_path), max_dbs=9)
    garbage = environment.open_db(b"garbage")
    with environment.begin(write=True) as transaction:
        transaction.drop(garbage)
    environment.close()
    with pytest.raises(Damaged, match="no table garbage"):
        Database(str(tmp_path))
    environment = lmdb.open(str(tmp_path), max_dbs=9)
    environment.open_db(b"garbage", dupsort=True)
    environment.close()
    with pytest.raises(Damaged, match="flags"):
        Database(str(tmp_path))
    environment = lmdb.open(str(tmp_path), max_dbs=9)
    environment.open_db(b"other")
    environment.close()
    with pytest.raises(Damaged, match="another kind"):
        Database(str(tmp_path))


def test_failed_read_raises_instead_of_returning_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(str(tmp_path))
    store(database, 1)

    class Failing:
        def __init__(self, error: type[Exception]) -> None:
            self.error = error

        def begin(self, *_: object, **__: object) -> None:
            raise self.error("it failed")

    real = database._environment
    for error, expected in (
        (lmdb.CorruptedError, Damaged),
        (lmdb.PageNotFoundError, Damaged),
        (lmdb.Error, Damaged),
        (lmdb.MemoryError, OSError),
        (MemoryError, OSError),
        (lmdb.ReadersFullError, OSError),
    ):
        monkeypatch.setattr(database, "_environment", Failing(error))
        for read in (
            lambda: database.get(STREAMS, b"/00000000"),
            lambda: database.scan(STREAMS, b"", 9),
            lambda: database.can_find(STREAMS, [(b"/00000000", b"")]),
        ):
            with pytest.raises(expected):
                read()
    for error, expected in (
        (lmdb.CorruptedError, Damaged),
        (lmdb.PanicError, Damaged),
        (lmdb.DiskError, OSError),
        (lmdb.Error, OSError),
    ):
        monkeypatch.setattr(database, "_environment", Failing(error))
        with pytest.raises(expected):
            store(database, 1)
    real.close()


def test_database_opens_in_directory_whose_name_is_invalid_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    os.mkdir(path)
    database = Database(path)
    store(database, 1)
    database.close()
    assert structure_faults(path) == []


@pytest.mark.parametrize("data", [b"", b"not a database", bytes(100_000), b"\xff" * 100_000])
def test_structure_check_reports_faults_in_file_of_another_format(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / DATA).write_bytes(data)
    faults = structure_faults(str(tmp_path))
    assert faults
    assert all(isinstance(fault, str) and fault for fault in faults)
