"""`check` finds what is planted; `repair` puts it aside and deletes nothing."""

import random
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from durable_streams_server import CreateOptions, FileBackedStreamStore
from durable_streams_server.cli import main
from durable_streams_server.storage.files.catalog import rebuild_from_copy
from durable_streams_server.storage.files.logs import path_of
from durable_streams_server.storage.files.wal import Damaged
from tests.protocol.subscriptions.world import subscribe
from tests.requests import NOW

SEGMENT = 1 << 20


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store with streams in logs and catalog, and more records behind them in the log."""
    with FileBackedStreamStore(tmp_path, segment_size=SEGMENT) as store:
        store.create("/json", "application/json")
        store.create("/text", "text/plain", CreateOptions(ttl_seconds=10_000))
        for number in range(20):
            store.append("/json", b'{"n":%d}' % number)
            store.append(
                "/text",
                b"line %d\n" % number,
                producer_id="p",
                producer_epoch=0,
                producer_seq=number,
            )
        store.create("/fork", options=CreateOptions(forked_from="/text"))
        store.create("/gone")
        store.delete("/gone")
    store = FileBackedStreamStore(tmp_path, segment_size=SEGMENT)
    for number in range(20):
        store.append("/json", b'{"late":%d}' % number)
    store._catalog.close()  # it dies without closing
    store._directory.release()
    return tmp_path


def check(directory: Path, *flags: str) -> Result:
    return CliRunner().invoke(main, ["check", str(directory), *flags])


def flip(file: Path, position: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


def log_of(directory: Path, path: str) -> Path:
    known = CliRunner().invoke(main, ["inspect", str(directory), path]).output
    (number,) = re.findall(r"incarnation: (\d+)", known)
    return directory / path_of(int(number))


def test_a_sound_store_is_well(directory: Path) -> None:
    result = check(directory)
    assert result.exit_code == 0, result.output
    assert result.output == "3 streams, 20 records in the log, " + result.output.split("log, ")[1]
    assert result.output.endswith("all is well\n")


@pytest.mark.parametrize("suffix", ["", ".idx"])
def test_every_flipped_bit_of_a_log_and_its_index_is_found(directory: Path, suffix: str) -> None:
    file = Path(f"{log_of(directory, '/text')}{suffix}")
    whole = file.read_bytes()
    chance = random.Random(0)
    for _ in range(40):
        position = chance.randrange(len(whole))
        if suffix and 20 <= position < 24:
            continue  # zeros that fill the header up
        flip(file, position, chance.randrange(8))
        result = check(directory)
        assert result.exit_code == 1, position
        assert "(stream /text)" in result.output
        file.write_bytes(whole)
    assert check(directory).exit_code == 0


def test_flipped_bits_of_the_write_ahead_log_are_found(directory: Path) -> None:
    file = directory / "wal" / "000"
    whole = file.read_bytes()
    end = len(whole.rstrip(b"\0"))
    last = whole.rindex(b'"late":18')
    chance = random.Random(0)
    for _ in range(40):
        flip(
            file,
            chance.choice([chance.randrange(32), chance.randrange(4096, last)]),
            chance.randrange(8),
        )
        result = check(directory)
        assert result.exit_code == 1
        assert "wal" in result.output
        file.write_bytes(whole)
    assert end > last


def test_flipped_bits_of_the_catalog_are_found(directory: Path) -> None:
    file = directory / "catalog" / "data.mdb"
    whole = file.read_bytes()
    found = 0
    for needle in (b"/json", b"/text", b"/fork"):
        at = -1
        while (at := whole.find(needle, at + 1)) >= 0:
            flip(file, at + len(needle) + 2, 3)
            found += check(directory).exit_code != 0
            file.write_bytes(whole)
    assert found >= 3  # each stream's entry; older copies of a page are nobody's


def test_parts_that_do_not_agree_are_found(directory: Path) -> None:
    log = log_of(directory, "/text")
    aside = log.with_name("aside")
    log.rename(aside)
    assert "is missing" in check(directory).output
    log.write_bytes(aside.read_bytes()[:-1])
    assert check(directory).exit_code == 1
    log.write_bytes(aside.read_bytes())
    aside.unlink()
    (log.parent / "0000000000000001").write_bytes(b"whose?")
    stray = check(directory)
    assert (stray.exit_code, "no stream has this file" in stray.output) == (0, True)


def test_a_repair_puts_aside_what_is_damaged_and_serves_the_rest(directory: Path) -> None:
    log = log_of(directory, "/json")
    flip(log, 5)
    result = check(directory, "--repair")
    assert result.exit_code == 1
    assert "/json is put aside" in result.output
    names = sorted(path.name for path in (directory / "quarantine").iterdir())
    assert len(names) == 3
    assert check(directory).exit_code == 0
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as store:
        assert not store.has("/json")
        assert store.read("/fork").data.count(b"\n") == 20


def test_a_repair_of_the_write_ahead_log_keeps_what_came_before(directory: Path) -> None:
    file = directory / "wal" / "000"
    flip(file, file.read_bytes().index(b'"late":10'))
    assert check(directory, "--repair").exit_code == 1
    assert check(directory).exit_code == 0
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as store:
        assert len(store.read("/json").messages) == 30
        store.append("/json", b"31")
    assert check(directory).exit_code == 0


def test_a_second_repair_keeps_what_the_first_has_put_aside(directory: Path) -> None:
    aside = []
    for _ in range(2):
        store = FileBackedStreamStore(directory, segment_size=SEGMENT)
        for number in range(10):
            store.append("/text", b"more %d" % number)
        store._catalog.close()  # it dies without closing
        store._directory.release()
        file = directory / "wal" / "000"
        flip(file, file.read_bytes().index(b"more 5"))
        aside.append(file.read_bytes()[:SEGMENT])
        assert check(directory, "--repair").exit_code == 1
    kept = [path.read_bytes()[:SEGMENT] for path in (directory / "quarantine").iterdir()]
    assert all(content in kept for content in aside)


def test_a_repair_of_a_damaged_catalog_leaves_the_streams_logs_alone(directory: Path) -> None:
    FileBackedStreamStore(directory, segment_size=SEGMENT).close()
    logs = sorted(path for path in (directory / "logs").rglob("*") if path.is_file())
    file = directory / "catalog" / "data.mdb"
    whole, at = file.read_bytes(), -1
    while (at := whole.find(b"/json", at + 1)) >= 0:
        flip(file, at + len(b"/json") + 2, 3)
        if "catalog" in check(directory, "--repair").output:
            break
        file.write_bytes(whole)
    assert at >= 0
    assert sorted(path for path in (directory / "logs").rglob("*") if path.is_file()) == logs
    with pytest.raises(Damaged, match="catalog"):
        FileBackedStreamStore(directory, segment_size=SEGMENT)
    rebuild_from_copy(str(directory / "catalog"), str(directory / "quarantine"))
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as store:
        assert store.read("/text").data.count(b"\n") == 20


def test_a_directory_in_use_is_left_alone(directory: Path) -> None:
    with FileBackedStreamStore(directory, segment_size=SEGMENT):
        result = check(directory)
    assert result.exit_code == 4
    assert "in use" in result.output


def test_inspect_tells_what_is_there_and_changes_nothing(directory: Path) -> None:
    before = {path: path.read_bytes() for path in (directory / "wal").iterdir()}
    runner = CliRunner()
    listing = runner.invoke(main, ["inspect", str(directory)])
    assert [line.split("\t")[0] for line in listing.output.splitlines()] == [
        "/fork",
        "/json",
        "/text",
    ]
    known = runner.invoke(main, ["inspect", str(directory), "/text"]).output
    assert "content type: text/plain" in known
    assert "producers: 1" in known
    assert "forks: 1" in known
    assert "expires: " in known
    assert "forked from: /text" in runner.invoke(main, ["inspect", str(directory), "/fork"]).output
    missing = runner.invoke(main, ["inspect", str(directory), "/nowhere"])
    assert missing.exit_code == 1
    assert {path: path.read_bytes() for path in (directory / "wal").iterdir()} == before


def test_a_flipped_bit_of_a_subscriptions_document_is_found(directory: Path) -> None:
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as store:
        command = subscribe("needle", description="a description to be found")
        store.shell.wait_for(store.execute(command, NOW))
    assert check(directory).exit_code == 0
    file = directory / "catalog" / "data.mdb"
    whole, at, found = file.read_bytes(), -1, 0
    while (at := whole.find(b"a description to be found", at + 1)) >= 0:
        flip(file, at + 3, 3)
        result = check(directory)
        if result.exit_code != 0:
            assert "subscription/needle" in result.output
            with pytest.raises(Damaged, match="subscription/needle"):
                FileBackedStreamStore(directory, segment_size=SEGMENT)
            found += 1
        file.write_bytes(whole)
    assert found == 1  # older copies of a page are nobody's
    assert check(directory).exit_code == 0
