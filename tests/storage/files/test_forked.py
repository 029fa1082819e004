"""Tests that a forked child process can neither reach the disk through its copy of the store nor harm its parent."""

import gc
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server.errors import StoreForked
from durable_streams_server.storage.files.catalog import Catalog, LmdbCatalog, Meta
from durable_streams_server.storage.files.disk import Disk, File
from durable_streams_server.storage.files.forked import keep_forever, refuse_calls
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.testing.disk import SimulatedDisk
from tests.children import in_child, outcome

REFUSED = [
    "StoreForked",
    "the store was opened before this process was forked: open it in the worker, and run one worker",
]


@pytest.fixture
def disk(tmp_path: Path) -> SystemDisk:
    made = SystemDisk(tmp_path)
    assert made.lock()
    return made


def test_file_refuses_every_call_in_forked_child_process(disk: SystemDisk) -> None:
    file = disk.open("a", create=True)
    file.write(b"hello", 0)
    calls: dict[str, Callable[[], object]] = {
        "size": lambda: file.size(),
        "read": lambda: file.read(1, 0),
        "read_ready": lambda: file.read_ready(1, 0),
        "write": lambda: file.write(b"x", 0),
        "write_durably": lambda: file.write_durably(b"x", 0),
        "allocate": lambda: file.allocate(9),
        "truncate": lambda: file.truncate(0),
        "sync": lambda: file.sync(),
        "check_place": lambda: file.check_place(),
    }
    assert {*calls, "close"} == File.__abstractmethods__
    said = in_child(lambda: {name: outcome(call) for name, call in calls.items()})
    assert said == {name: {"raised": REFUSED} for name in calls}
    assert in_child(file.close) is None
    assert file.read(9, 0) == b"hello"


def test_disk_refuses_every_call_in_forked_child_process(disk: SystemDisk, tmp_path: Path) -> None:
    disk.open("a", create=True)
    arguments: dict[str, tuple[Any, ...]] = dict.fromkeys(
        Disk.__abstractmethods__ - {"release"}, ("a",)
    )
    arguments["rename"] = ("a", "b")
    for name in ("sync_all", "lock", "check_lock", "check_place", "random_number"):
        arguments[name] = ()

    def try_all() -> dict[str, Any]:
        return {
            name: outcome(partial(getattr(disk, name), *given)) for name, given in arguments.items()
        }

    assert in_child(try_all) == {name: {"raised": REFUSED} for name in arguments}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LOCK", "a"]


def test_forked_child_process_does_not_release_directory_lock(
    disk: SystemDisk, tmp_path: Path
) -> None:
    assert in_child(disk.release) is None
    assert not SystemDisk(tmp_path).lock()
    disk.check_lock()
    disk.release()
    assert SystemDisk(tmp_path).lock()


def test_forked_child_does_not_hold_lock_after_parent_releases_it(
    disk: SystemDisk, tmp_path: Path
) -> None:
    ready, go_on = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(go_on[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        disk.release()
        assert SystemDisk(tmp_path).lock()
    finally:
        os.write(go_on[1], b"x")
        os.waitpid(child, 0)
        for descriptor in (*ready, *go_on):
            os.close(descriptor)


def test_forked_child_may_lock_directory_its_parent_has_not_locked(tmp_path: Path) -> None:
    disk = SystemDisk(tmp_path)
    assert in_child(disk.lock) is True


def test_check_lock_detects_fork_from_changed_process_id(
    disk: SystemDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(StoreForked):
        disk.check_lock()


def test_catalog_refuses_every_call_in_forked_child_process(tmp_path: Path) -> None:
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(Meta(7), [], [])

    def forked() -> list[Any]:
        keep_forever(catalog)
        refuse_calls(catalog, Catalog, ends="close")
        catalog.close()
        gc.collect()
        return [outcome(catalog.meta), outcome(lambda: catalog.find("/a"))]

    assert in_child(forked) == [{"raised": REFUSED}] * 2
    assert catalog.meta().lsn == 7
    catalog.commit(Meta(8), [], [])
    catalog.close()


def test_object_has_same_class_in_forked_child_process() -> None:
    disk = SimulatedDisk(random.Random(1))
    refuse_calls(disk, Disk, ends="release")
    disk.release()
    assert isinstance(disk, SimulatedDisk)
    with pytest.raises(StoreForked):
        disk.open("a")
