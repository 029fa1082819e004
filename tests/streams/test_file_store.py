"""`FileBackedStreamStore`: durable when a call returns, from any thread; its functions are those of `test_stream_store.py`."""

import asyncio
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from durable_streams_server import FileBackedStreamStore, create_app
from durable_streams_server.cli.data import check, inspect
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.names import MAX_TIME, MAX_TTL_SECONDS
from durable_streams_server.storage.files.directory import DirectoryRefused
from durable_streams_server.storage.files.disk import SystemFile
from tests.requests import NOW, append, create

SEGMENT = 1 << 20


def open_store(path: Path) -> FileBackedStreamStore:
    return FileBackedStreamStore(path, segment_size=SEGMENT)


def as_a_kill_leaves_it(path: Path) -> Path:
    """Returns a copy of what a directory holds at this moment."""
    return Path(shutil.copytree(path, f"{path}-killed"))


def test_what_an_append_returned_for_is_there_after_a_kill(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create("/a", "text/plain")
    store.append("/a", b"one", producer_id="p", producer_epoch=0, producer_seq=0)
    with open_store(as_a_kill_leaves_it(tmp_path)) as again:
        repeated = again.append("/a", b"one", producer_id="p", producer_epoch=0, producer_seq=0)
        assert not repeated.wrote
        assert again.read("/a").data == b"one"
    store.close()


async def test_threads_beside_a_running_application_append_durably(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    app = create_app(store=store)
    app.engine.start()

    def work(number: int) -> None:
        path = f"/{number}"
        store.create(path, "text/plain")
        for piece in range(20):
            store.append(path, b"%d," % piece)

    await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(8)))
    store.append("/0", b"on the loop")  # and from the loop's own thread
    await app.engine.stop()
    with open_store(as_a_kill_leaves_it(tmp_path)) as again:
        whole = b"".join(b"%d," % piece for piece in range(20))
        assert again.read("/7").data == whole
        assert again.read("/0").data == whole + b"on the loop"
    store.close()


def test_a_failed_write_is_raised_and_stops_the_store(
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


def test_a_store_that_cannot_be_opened_lets_its_directory_go(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    (tmp_path / "catalog" / "data.mdb").write_bytes(b"not a database")
    for _ in range(2):
        with pytest.raises(Exception, match="catalog") as raised:
            open_store(tmp_path)
        assert not isinstance(raised.value, DirectoryRefused)


ODD_LIFETIMES = [
    Lifetime(expires_at=0, expires_text="1970-01-01T00:00:00Z"),
    Lifetime(expires_at=-(10**15), expires_text="1938-04-24T22:13:20Z"),  # of an earlier version
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
def test_store_survives_a_checkpoint_and_restarts_with_any_lifetime_and_clock(
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
