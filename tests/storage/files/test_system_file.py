"""Tests of files of the operating system."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams_server.protocol.units import MIB
from durable_streams_server.storage.files import system_file
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.storage.files.system_file import SystemFile


def test_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev

    def short(descriptor: int, buffers: list[memoryview], position: int, flags: int) -> int:
        return whole(descriptor, [buffers[0][:3]], position, flags)

    monkeypatch.setattr(os, "pwritev", short)
    file = SystemDisk(tmp_path).open("a", create=True)
    file.write_durably(b"0123456789", 1)
    assert file.read(20, 0) == b"\x000123456789"
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    with pytest.raises(OSError, match="a") as raised:
        file.write(b"x", 0)
    assert raised.value.errno == errno.EIO
    file.close()


def test_short_write_of_several_parts_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = os.pwritev, []

    def short(descriptor: int, views: list[memoryview], position: int, flags: int = 0) -> int:
        calls.append(len(views))
        joined = b"".join(views)[:5]
        return whole(descriptor, [joined], position, flags)

    monkeypatch.setattr(os, "pwritev", short)
    file = SystemDisk(tmp_path).open("file", create=True)
    file.write_durably((b"", b"abc", b"defghij", b"k", b"", b"lmn"), 2)
    assert file.read(100, 0) == b"\0\0abcdefghijklmn"
    assert len(calls) == 3
    file.close()


def test_large_read_is_split_into_several_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    whole = os.preadv

    def counted(descriptor: int, buffers: list[memoryview], position: int) -> int:
        asked.append(len(buffers[0]))
        return whole(descriptor, buffers, position)

    data = os.urandom(5 * MIB // 2)
    file = SystemDisk(tmp_path).open("a", create=True)
    file.write(data, 0)
    monkeypatch.setattr(system_file, "_PIECE", MIB)
    monkeypatch.setattr(os, "preadv", counted)
    assert file.read(len(data) - 3, 1) == data[1:-2]
    assert asked == [MIB, MIB, MIB // 2 - 3]
    assert file.read(3 * MIB, 1) == data[1:]
    assert file.read(10, len(data) - 4) == data[-4:]
    assert file.read(2 * MIB, len(data)) == b""
    file.close()


def test_every_error_names_the_file(tmp_path: Path) -> None:
    file = SystemDisk(tmp_path).open("a", create=True)
    assert isinstance(file, SystemFile)
    os.close(file._descriptor)
    calls: list[Callable[[], object]] = [
        lambda: file.write(b"x", 0),
        lambda: file.allocate(9),
        lambda: file.truncate(9),
        file.sync,
        lambda: file.read_ready(1, 0),
    ]
    for call in calls:
        with pytest.raises(OSError, match=f"{tmp_path}/a"):
            call()


def test_ready_read_returns_none_if_the_file_system_does_not_support_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "no")

    file = SystemDisk(tmp_path).open("a", create=True)
    file.write(b"x", 0)
    monkeypatch.setattr(os, "preadv", unsupported)
    assert file.read_ready(1, 0) is None
    assert file.read(1, 0) == b"x"
    file.close()
