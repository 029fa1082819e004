"""Tests of the command `check`: it finds planted damage, and `--repair` moves damaged files away without deleting any."""

import os
import random
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from durable_streams_server import CreateOptions, FileBackedStreamStore
from durable_streams_server.cli import main
from durable_streams_server.errors import StreamDamaged
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.log_layout import path_of
from tests.protocol.subscriptions.world import subscribe
from tests.requests import NOW

SEGMENT = 1 << 20


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory whose store died after a checkpoint and twenty more appends."""
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
    store._catalog.close()  # as if the process were killed
    store._directory.release()
    return tmp_path


def check(directory: Path, *flags: str) -> Result:
    return CliRunner().invoke(main, ["check", str(directory), *flags])


def flip(file: Path, position: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


def log_of(directory: Path, path: str) -> Path:
    """Returns the log file of the stream at a path."""
    known = CliRunner().invoke(main, ["inspect", str(directory), path]).output
    (number,) = re.findall(r"incarnation: (\d+)", known)
    return directory / path_of(int(number))


def test_intact_store_has_no_findings(directory: Path) -> None:
    result = check(directory)
    assert result.exit_code == 0, result.output
    assert "3 streams, 20 records in the log, " in result.output
    assert "has 0 of the streams and 230 of the bytes" in result.output
    assert result.output.endswith("all is well\n")


@pytest.mark.parametrize("suffixes", [("",), (".idx",), ("", ".idx")])
@pytest.mark.parametrize("is_created_again", [False, True])
def test_missing_log_of_deleted_stream_is_no_finding(
    directory: Path, suffixes: tuple[str, ...], is_created_again: bool
) -> None:
    log, fork = log_of(directory, "/text"), log_of(directory, "/fork")
    store = FileBackedStreamStore(directory, segment_size=SEGMENT)
    store.delete("/text")
    store.delete("/fork")  # this deletes its source too
    if is_created_again:
        store.create("/text", "text/plain")
        store.append("/text", b"another life")
    store._catalog.close()  # ends the store as a kill before a checkpoint would
    store._directory.release()
    assert not fork.exists()
    for suffix in suffixes:  # a checkpoint on a full disk does this
        log.with_name(log.name + suffix).unlink()
    before = {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()}
    result = check(directory)
    assert (result.exit_code, "all is well" in result.output) == (0, True), result.output
    repaired = check(directory, "--repair")
    assert repaired.exit_code == 0, repaired.output
    assert before == {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()}
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as again:
        assert set(again.paths()) == {"/json"} | ({"/text"} if is_created_again else set())


def test_check_reports_missing_log_if_deletion_record_is_damaged(
    directory: Path,
) -> None:
    log = log_of(directory, "/text")
    store = FileBackedStreamStore(directory, segment_size=SEGMENT)
    store.delete("/fork")
    store.delete("/text")
    store.append("/json", b"1")
    store.append("/json", b"2")
    store._catalog.close()
    store._directory.release()
    log.unlink()
    segment = directory / "wal" / "000"
    flip(segment, segment.read_bytes().rindex(b"/text"))
    result = check(directory)
    assert result.exit_code == 1
    assert "/text" in result.output
    assert "is missing" in result.output
    repaired = check(directory, "--repair")
    assert "/text: " in repaired.output
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as again:
        assert "/text" in set(again.paths())


@pytest.mark.parametrize("suffix", ["", ".idx"])
@pytest.mark.parametrize("what", ["a directory", "a link", "a FIFO"])
def test_non_file_in_place_of_log_damages_only_its_stream(
    directory: Path, suffix: str, what: str
) -> None:
    log = log_of(directory, "/json")
    log = log.with_name(log.name + suffix)
    away = directory.parent / f"{directory.name}-away"
    log.rename(away)
    if what == "a directory":
        log.mkdir()
    elif what == "a link":
        log.symlink_to(away)
    else:
        os.mkfifo(log)
    for number in range(2):
        with FileBackedStreamStore(
            directory, segment_size=SEGMENT
        ) as store:  # opening the store replays records of /json
            store.append("/text", b"more %d" % number)
            store.run_checkpoint()
            assert store.failure is None
            with pytest.raises(StreamDamaged):
                store.append("/json", b"1")
    result = check(directory)
    assert result.exit_code == 1
    assert "(stream /json)" in result.output
    check(directory, "--repair")
    assert check(directory).exit_code == 0
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as store:
        store.append("/json", b"1")


@pytest.mark.parametrize("suffix", ["", ".idx"])
def test_every_flipped_bit_of_log_or_index_is_found(directory: Path, suffix: str) -> None:
    file = Path(f"{log_of(directory, '/text')}{suffix}")
    whole = file.read_bytes()
    chance = random.Random(0)
    for _ in range(40):
        position = chance.randrange(len(whole))
        if suffix and 20 <= position < 24:
            continue  # padding of the header, which no CRC covers
        flip(file, position, chance.randrange(8))
        result = check(directory)
        assert result.exit_code == 1, position
        assert "(stream /text)" in result.output
        file.write_bytes(whole)
    assert check(directory).exit_code == 0


def test_every_flipped_bit_of_write_ahead_log_is_found(directory: Path) -> None:
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


def test_flipped_bits_of_catalog_entries_are_found(directory: Path) -> None:
    file = directory / "catalog" / "data.mdb"
    whole = file.read_bytes()
    found = 0
    for needle in (b"/json", b"/text", b"/fork"):
        at = -1
        while (at := whole.find(needle, at + 1)) >= 0:
            flip(file, at + len(needle) + 2, 3)
            found += check(directory).exit_code != 0
            file.write_bytes(whole)
    assert found >= 3  # one for each stream; older versions of a page are unused


def test_missing_truncated_and_stray_logs_are_found(directory: Path) -> None:
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


def test_repair_keeps_intact_prefix_and_quarantines_damaged_files(directory: Path) -> None:
    log = log_of(directory, "/json")
    whole = log.read_bytes()
    flip(log, whole.index(b'{"n":7}') + 2)
    result = check(directory, "--repair")
    assert result.exit_code == 1
    assert "/json: its log is damaged past position 56; it begins anew" in result.output
    assert check(directory).exit_code == 0
    kept = [path.read_bytes() for path in (directory / "quarantine").iterdir()]
    assert any(each[60:] == whole[60:] for each in kept)  # the bytes after the damage
    # The write-ahead log has appends after the damage.
    assert any(b'"change":"Appended"' in each for each in kept)
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as store:
        assert [m.data for m in store.read("/json").messages] == [b'{"n":%d}' % n for n in range(7)]
        assert store.read("/fork").data.count(b"\n") == 20


def test_repair_of_write_ahead_log_keeps_records_before_damage(directory: Path) -> None:
    file = directory / "wal" / "000"
    flip(file, file.read_bytes().index(b'"late":10'))
    assert check(directory, "--repair").exit_code == 1
    assert check(directory).exit_code == 0
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as store:
        assert len(store.read("/json").messages) == 30
        assert store.read("/fork").data.count(b"\n") == 20
        store.append("/json", b"31")
    assert check(directory).exit_code == 0


def test_second_repair_keeps_files_that_the_first_repair_has_quarantined(directory: Path) -> None:
    aside = []
    for _ in range(2):
        store = FileBackedStreamStore(directory, segment_size=SEGMENT)
        for number in range(10):
            store.append("/text", b"more %d" % number)
        store._catalog.close()  # as if the process were killed
        store._directory.release()
        file = directory / "wal" / "000"
        flip(file, file.read_bytes().index(b"more 5"))
        aside.append(file.read_bytes()[:SEGMENT])
        assert check(directory, "--repair").exit_code == 1
    kept = [path.read_bytes()[:SEGMENT] for path in (directory / "quarantine").iterdir()]
    assert all(content in kept for content in aside)


def test_repair_of_catalog_changes_no_log(directory: Path) -> None:
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
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as store:
        assert store.read("/text").data.count(b"\n") == 20


def test_check_of_directory_in_use_exits_4(directory: Path) -> None:
    with FileBackedStreamStore(directory, segment_size=SEGMENT):
        result = check(directory)
    assert result.exit_code == 4
    assert "in use" in result.output


def test_inspect_prints_streams_and_changes_nothing(directory: Path) -> None:
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
    assert "public: no" in known
    assert "expires: " in known
    assert "forked from: /text" in runner.invoke(main, ["inspect", str(directory), "/fork"]).output
    missing = runner.invoke(main, ["inspect", str(directory), "/nowhere"])
    assert missing.exit_code == 1
    assert {path: path.read_bytes() for path in (directory / "wal").iterdir()} == before


def test_inspect_lists_subscriptions_with_their_owners(directory: Path) -> None:
    with FileBackedStreamStore(directory, segment_size=SEGMENT) as store:
        for command in (
            subscribe("mine", "token:me", streams=["text", "other"]),
            subscribe("a\nb", "jwt:mallory\x1b[2J\tx"),
            subscribe("open", None, type="webhook", pattern="**"),
        ):
            store.shell.wait_for(store.execute(command, NOW))
    result = CliRunner().invoke(main, ["inspect", str(directory), "--subscriptions"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "a\\nb\tpull-wake\tevents/*\t0 links\t0 with news\tjwt:mallory\\x1b[2J\\tx",
        "mine\tpull-wake\t-\t2 links\t0 with news\ttoken:me",
        "open\twebhook\t**\t0 links\t0 with news\t-",
    ]
    both = CliRunner().invoke(main, ["inspect", str(directory), "/text", "--subscriptions"])
    assert both.exit_code == 2


def test_flipped_bit_of_subscription_document_is_found(directory: Path) -> None:
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
    assert found == 1  # older versions of a page are unused
    assert check(directory).exit_code == 0
