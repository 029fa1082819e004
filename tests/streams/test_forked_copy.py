"""The copy of an open store in a child process refuses every call, and does no harm to the store of its parent."""

import asyncio
import gc
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from durable_streams_server import DurableStreamsApp, FileBackedStreamStore, create_app
from tests.children import in_child, outcome
from tests.streams.file_stores import copy_as_after_kill, open_store

REFUSED = {
    "raised": [
        "StoreForked",
        "the store was opened before this process was forked: open it in the worker, and run one worker",
    ]
}


def try_everything(store: FileBackedStreamStore) -> list[Any]:
    """Calls each public function of a store, and returns the outcome of each call."""
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
    """Calls each public function of a store, then closes and drops the store in every way. Returns the outcomes of the calls."""
    said = try_everything(store)
    with store:
        pass
    store.close()
    store.shell.stop()
    del store
    gc.collect()
    return said


def test_forked_copy_refuses_every_call_and_parent_keeps_working(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create("/a", "text/plain")
    said = []
    for number in range(10):
        said.append(in_child(lambda: try_everything_and_leave(store)))
        store.append("/a", b"%d" % number)
        store.create(f"/{number}")
    assert said == [[REFUSED] * 7] * 10
    with open_store(copy_as_after_kill(tmp_path)) as again:
        assert again.read("/a").data == b"0123456789"
        assert all(again.has(f"/{number}") for number in range(10))
        assert not again.has("/child")
    store.close()
    open_store(tmp_path).close()


async def test_forked_copy_of_running_server_refuses_every_call(tmp_path: Path) -> None:
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


def test_child_process_that_exits_normally_harms_nothing(tmp_path: Path) -> None:
    """The child runs the whole shutdown of the interpreter: exit handlers, garbage collection and the end of threads."""
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


def test_forked_copy_in_multiprocessing_child_refuses_every_call(tmp_path: Path) -> None:
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


def test_child_process_may_open_store_that_parent_has_closed(tmp_path: Path) -> None:
    open_store(tmp_path).close()

    def open_again() -> str:
        with open_store(tmp_path) as store:
            return store.create("/a", "text/plain").path

    assert in_child(open_again) == "/a"


async def request(app: DurableStreamsApp, method: str) -> tuple[int, bytes]:
    """Sends a request for one stream to the application. Returns the status and the body of the response."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        headers = {"content-type": "text/plain"}
        answer = await http.request(method, "/a", headers=headers, content=b"x")
        return answer.status_code, answer.content


def test_application_in_forked_worker_answers_503_and_logs_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path)
    store.create("/a", "text/plain")
    app = create_app(store=store)

    def worker() -> list[Any]:
        answers = [asyncio.run(request(app, method)) for method in ("GET", "POST", "PUT", "DELETE")]
        codes = [(status, json.loads(body)["error"]["code"]) for status, body in answers]
        asyncio.run(app.stop())
        return [*codes, [record.getMessage() for record in caplog.records]]

    with caplog.at_level("CRITICAL", logger="durable_streams_server"):
        *codes, said = in_child(worker)
    assert codes == [[503, "STORE_FORKED"]] * 4
    assert said == [REFUSED["raised"][1]]
    assert store.read("/a").data == b""
    store.close()
