"""`FileBackedStreamStore`: every change is durable when its call returns, and a lost directory stops the store."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from durable_streams_server import create_app
from durable_streams_server.cli.data import check, inspect
from durable_streams_server.protocol import commands
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.limits import MAX_TIME, MAX_TTL_SECONDS
from durable_streams_server.storage.files import wal
from durable_streams_server.storage.files.directory import DirectoryRefused
from durable_streams_server.storage.files.place import DirectoryLost
from durable_streams_server.storage.files.system_file import SystemFile
from durable_streams_server.storage.ticket import Abandoned
from tests.requests import NOW, append, create
from tests.streams.file_stores import copy_as_after_kill, open_store


def test_acknowledged_append_survives_kill(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create("/a", "text/plain")
    store.append("/a", b"one", producer_id="p", producer_epoch=0, producer_seq=0)
    with open_store(copy_as_after_kill(tmp_path)) as again:
        repeated = again.append("/a", b"one", producer_id="p", producer_epoch=0, producer_seq=0)
        assert repeated.duplicate
        assert again.read("/a").data == b"one"
    store.close()


async def test_appends_from_threads_of_running_application_are_durable(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    app = create_app(store=store)
    app.engine.start()

    def work(number: int) -> None:
        path = f"/{number}"
        store.create(path, "text/plain")
        for piece in range(20):
            store.append(path, b"%d," % piece)

    await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(8)))
    store.append("/0", b"on the loop")  # a call from the loop's own thread
    await app.engine.stop()
    with open_store(copy_as_after_kill(tmp_path)) as again:
        whole = b"".join(b"%d," % piece for piece in range(20))
        assert again.read("/7").data == whole
        assert again.read("/0").data == whole + b"on the loop"
    store.close()


def test_failed_write_raises_and_stops_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error", "wal/000")

    store = open_store(tmp_path)
    store.create("/a", "text/plain")
    with monkeypatch.context() as patch:
        patch.setattr(SystemFile, "write_durably", broken)
        with pytest.raises(OSError, match="wal/000"):
            store.append("/a", b"lost")
    with pytest.raises(OSError, match="wal/000"):
        store.append("/a", b"later")
    assert store.read("/a").data == b""
    store.close()
    with open_store(tmp_path) as again:
        assert again.read("/a").data == b""


def test_store_that_cannot_be_opened_releases_its_directory(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    (tmp_path / "catalog" / "data.mdb").write_bytes(b"not a database")
    for _ in range(2):
        with pytest.raises(Exception, match="catalog") as raised:
            open_store(tmp_path)
        assert not isinstance(raised.value, DirectoryRefused)


ODD_LIFETIMES = [
    Lifetime(expires_at=0, expires_text="1970-01-01T00:00:00Z"),
    Lifetime(
        expires_at=-(10**15), expires_text="1938-04-24T22:13:20Z"
    ),  # an earlier version accepted this
    Lifetime(expires_at=-(2**63)),
    Lifetime(expires_at=MAX_TIME),
    Lifetime(expires_at=MAX_TIME + 3600 * 10**6, expires_text="9999-12-31T23:59:59-01:00"),
    Lifetime(expires_at=2**64 - 1),
    Lifetime(ttl=0),
    Lifetime(ttl=MAX_TTL_SECONDS),
    Lifetime(ttl=2**63),
]


@pytest.mark.parametrize("lifetime", ODD_LIFETIMES)
@pytest.mark.parametrize("now", [-(10**15), 0, NOW, MAX_TIME, 10**18])
def test_store_with_extreme_lifetime_and_clock_can_be_checkpointed_reopened_and_inspected(
    tmp_path: Path, lifetime: Lifetime, now: int
) -> None:
    with open_store(tmp_path) as store:
        store.execute(create("/odd", body=b"x", lifetime=lifetime), now)
        store.execute(create("/plain", body=b"y"), now)
        store.run_checkpoint()
        store.execute(append("/odd", b"z"), now)
        store.execute(append("/plain", b"z"), now)
        store.due(now)
    for _ in range(2):
        with open_store(tmp_path) as store:
            assert store.failure is None
            assert store.read("/plain").data == b"yz"
            odd = store.find("/odd").result()
            assert odd is None or odd.lifetime == lifetime
            store.due(now)
            store.run_checkpoint()
    shown = CliRunner().invoke(inspect, [str(tmp_path), "/odd"])
    assert isinstance(shown.exception, SystemExit | None)
    assert CliRunner().invoke(check, [str(tmp_path)]).exit_code == 0


def remove(path: Path) -> None:
    shutil.rmtree(path)


def move_away(path: Path) -> None:
    path.rename(f"{path}-away")


def replace(path: Path) -> None:
    path.rename(f"{path}-away")
    open_store(path).close()


def remove_log(path: Path) -> None:
    shutil.rmtree(path / "wal")


def move_log_away(path: Path) -> None:
    (path / "wal").rename(path.parent / "wal")


def replace_segments(path: Path) -> None:
    for segment in (path / "wal").iterdir():
        copied = segment.with_suffix(".copy")
        shutil.copy(segment, copied)
        copied.rename(segment)


LOSSES = [remove, move_away, replace, remove_log, move_log_away, replace_segments]


@pytest.mark.parametrize("lose", LOSSES)
def test_store_acknowledges_nothing_after_its_directory_is_lost(
    tmp_path: Path, lose: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "CHECK_INTERVAL", 0.0)
    path = tmp_path / "data"
    store = open_store(path)
    store.create("/a", "text/plain")
    store.append("/a", b"before")
    lose(path)
    for _ in range(2):
        with pytest.raises(DirectoryLost, match=f"{path}.*(moved or removed|replaced)"):
            store.append("/a", b"after")
    with pytest.raises(DirectoryLost):
        store.create("/b")
    assert isinstance(store.failure, DirectoryLost)
    assert store.read("/a").data == b"before"
    store.close()


def test_store_finds_lost_directory_at_next_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("durable_streams_server.storage.files.wal.time.monotonic", lambda: now)
    store = open_store(tmp_path / "data")
    store.create("/a", "text/plain")
    remove(tmp_path / "data")
    now += wal.CHECK_INTERVAL * 0.9
    store.append("/a", b"not noticed yet")
    now += wal.CHECK_INTERVAL * 0.2
    with pytest.raises(DirectoryLost):
        store.append("/a", b"after")
    store.close()


@pytest.mark.parametrize("part", ["LOCK", "FORMAT", "logs", "catalog", "catalog/data.mdb"])
def test_store_recycles_no_segment_after_part_of_directory_is_lost(
    tmp_path: Path, part: str
) -> None:
    store = open_store(tmp_path / "data")
    store.create("/a", "text/plain")
    store.append("/a", b"before")
    proven = store.meta.lsn
    (tmp_path / "data" / part).rename(tmp_path / "away")
    with pytest.raises(OSError, match=part):
        store.run_checkpoint()
    assert store.meta.lsn == proven
    with pytest.raises(OSError, match=part):
        store.append("/a", b"after")
    store.close()
    assert not (tmp_path / "data" / part).exists(), "it was made anew"


async def test_running_server_stops_after_its_directory_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "data"
    store = open_store(path)
    app = create_app(store=store)
    failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    app.engine.on_failure = failure.set_result
    app.engine.start()
    store.create("/a", "text/plain")
    await asyncio.to_thread(store.append, "/a", b"before")
    shutil.rmtree(path)
    command = commands.parse_append("/a", {b"content-type": b"text/plain"}, b"x")
    app.engine.append(command)  # a single append is enough to notice the loss
    error = await asyncio.wait_for(failure, 10)
    with pytest.raises(Abandoned):
        app.engine.append(command).result()
    # The class of the error depends on which thread notices the loss first.
    assert isinstance(error, OSError)
    assert str(path) in str(error)
    await app.stop()
    store.close()


def test_store_with_relative_path_survives_change_of_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(Path("data"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.create("/a", "text/plain")
    store.append("/a", b"x")
    store.run_checkpoint()
    store.close()
    with open_store(tmp_path / "data") as again:
        assert again.read("/a").data == b"x"
