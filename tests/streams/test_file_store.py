"""`FileBackedStreamStore`: durable when a call returns, from any thread; its functions are those of `test_stream_store.py`."""

import asyncio
import gc
import json
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from durable_streams_server import DurableStreamsApp, FileBackedStreamStore, create_app
from durable_streams_server.cli.data import check, inspect
from durable_streams_server.protocol import commands
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.limits import MAX_TIME, MAX_TTL_SECONDS
from durable_streams_server.storage.files import wal
from durable_streams_server.storage.files.directory import DirectoryRefused
from durable_streams_server.storage.files.place import DirectoryLost
from durable_streams_server.storage.files.system_file import SystemFile
from durable_streams_server.storage.ticket import Abandoned
from tests.children import in_child, outcome
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
        assert repeated.duplicate
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


REFUSED = {
    "raised": [
        "StoreForked",
        "the store was opened before this process was forked: open it in the worker, and run one worker",
    ]
}


def try_everything(store: FileBackedStreamStore) -> list[Any]:
    """Calls what a program may call on a store, and returns what each call said."""
    return [
        outcome(lambda: store.create("/child", "text/plain")),
        outcome(lambda: store.append("/a", b"child")),
        outcome(lambda: store.read("/a").data.decode()),
        outcome(lambda: store.get("/a") is not None),
        outcome(lambda: store.delete("/a")),
        outcome(lambda: list(store.paths())),
        outcome(lambda: create_app(store=store) is not None),
    ]


def try_everything_and_leave(store: FileBackedStreamStore) -> list[Any]:
    """As above, and then ends the store in every way that there is."""
    said = try_everything(store)
    with store:
        pass
    store.close()
    store.shell.stop()
    del store
    gc.collect()
    return said


def test_forked_copy_refuses_everything_and_its_parent_goes_on(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create("/a", "text/plain")
    said = []
    for number in range(10):
        said.append(in_child(lambda: try_everything_and_leave(store)))
        store.append("/a", b"%d" % number)
        store.create(f"/{number}")
    assert said == [[REFUSED] * 7] * 10
    with open_store(as_a_kill_leaves_it(tmp_path)) as again:
        assert again.read("/a").data == b"0123456789"
        assert all(again.has(f"/{number}") for number in range(10))
        assert not again.has("/child")
    store.close()
    open_store(tmp_path).close()


async def test_fork_of_a_running_server_refuses_everything_too(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    app = create_app(store=store)
    app.engine.start()
    store.create("/a", "text/plain")
    said = []
    for number in range(5):
        work = asyncio.gather(
            *(asyncio.to_thread(store.append, "/a", b"%d" % number) for _ in range(8))
        )
        await asyncio.sleep(0)
        said.append(in_child(lambda: try_everything(store)))
        await work
    assert said == [[REFUSED] * 7] * 5
    await app.stop()
    store.close()
    with open_store(tmp_path) as again:
        assert len(again.read("/a").data) == 40


def test_child_that_ends_as_a_program_does_harms_nothing(tmp_path: Path) -> None:
    """The child runs the interpreter's whole end: exit handlers, collection of garbage, threads' ends."""
    program = """if True:
        import os, sys
        from durable_streams_server import FileBackedStreamStore
        store = FileBackedStreamStore(sys.argv[1], segment_size=1 << 20)
        store.create("/a", "text/plain")
        for number in range(5):
            child = os.fork()
            if child == 0:
                try:
                    store.append("/a", b"child")
                except Exception as error:
                    print(type(error).__name__, flush=True)
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            store.append("/a", b"parent")
        store.run_checkpoint()
        store.close()
    """
    shown = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.split() == ["StoreForked"] * 5
    with open_store(tmp_path) as again:
        assert again.read("/a").data == b"parent" * 5


def test_child_of_multiprocessing_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create("/a", "text/plain")
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(try_everything(store)))
    child.start()
    said = queue.get()
    child.join(20)
    assert (said, child.exitcode) == ([REFUSED] * 7, 0)
    store.append("/a", b"parent")
    store.close()


def test_closed_store_keeps_no_child_from_opening_it(tmp_path: Path) -> None:
    open_store(tmp_path).close()

    def open_again() -> str:
        with open_store(tmp_path) as store:
            return store.create("/a", "text/plain").path

    assert in_child(open_again) == "/a"


async def ask(app: DurableStreamsApp, method: str) -> tuple[int, bytes]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        headers = {"content-type": "text/plain"}
        answer = await http.request(method, "/a", headers=headers, content=b"x")
        return answer.status_code, answer.content


def test_application_in_a_forked_worker_answers_503_and_says_why_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path)
    store.create("/a", "text/plain")
    app = create_app(store=store)

    def worker() -> list[Any]:
        answers = [asyncio.run(ask(app, method)) for method in ("GET", "POST", "PUT", "DELETE")]
        codes = [(status, json.loads(body)["error"]["code"]) for status, body in answers]
        asyncio.run(app.stop())
        return [*codes, [record.getMessage() for record in caplog.records]]

    with caplog.at_level("CRITICAL", logger="durable_streams_server"):
        *codes, said = in_child(worker)
    assert codes == [[503, "STORE_FORKED"]] * 4
    assert said == [REFUSED["raised"][1]]
    assert store.read("/a").data == b""
    store.close()


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
def test_nothing_is_acknowledged_once_the_directory_is_known_to_be_lost(
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


def test_lost_directory_is_noticed_after_the_time_between_two_looks(
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
def test_no_segment_is_used_again_once_a_part_of_the_directory_is_lost(
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


async def test_running_server_stops_when_its_directory_is_removed(tmp_path: Path) -> None:
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
    app.engine.append(command)  # the only one: nobody else need write for the loss to be noticed
    error = await asyncio.wait_for(failure, 10)
    with pytest.raises(Abandoned):
        app.engine.append(command).result()
    assert isinstance(error, OSError)  # whichever thread has noticed it first
    assert str(path) in str(error)
    await app.stop()
    store.close()


def test_program_that_goes_to_another_directory_keeps_its_store(
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
