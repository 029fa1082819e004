"""Tests of a repair: it keeps every intact record, makes old offsets invalid if needed, deletes nothing, and may be killed at any call."""

import random

import pytest

from durable_streams_server.errors import BadRequest, Gone
from durable_streams_server.protocol.commands import Fork
from durable_streams_server.protocol.decisions.quota import Usage
from durable_streams_server.protocol.existing import visible_position
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.state import Change, Removed, StreamChange, StreamState
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.directory import QUARANTINE
from durable_streams_server.storage.files.log_layout import KEPT, path_of
from durable_streams_server.storage.files.offline.check import Check
from durable_streams_server.storage.files.offline.findings import Finding
from durable_streams_server.storage.files.offline.repair import repair
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import PowerLoss, SimulatedDisk
from tests.crash.catalog_sums import forget_sums, write_sums
from tests.crash.faults import no_fault
from tests.crash.model import Model
from tests.crash.simulator import Simulation
from tests.requests import NOW, SECOND, append, create
from tests.storage.files.stores import content, new_disk, open_store, run

TEXT = "text/plain"
LATER = NOW + 100 * SECOND


def checked(disk: SimulatedDisk) -> tuple[Check, list[Finding]]:
    check = Check(disk, SimulatedCatalog(disk))
    return check, list(check.run())


def repaired(disk: SimulatedDisk) -> list[str]:
    """Repairs a damaged disk, and asserts that nothing is left to repair. Returns the messages of the repair."""
    check, findings = checked(disk)
    assert findings
    said = list(repair(disk, SimulatedCatalog(disk), check, LATER))
    left = [finding for finding in checked(disk)[1] if not finding.harmless]
    assert left == []
    return said


def test_wrong_numbers_of_streams_and_bytes_are_found_and_counted_again() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT, b"first"), create("/b", TEXT, b"second"))
    store.run_checkpoint()
    catalog = SimulatedCatalog(disk)
    for streams, stored, found in (
        (2, 12, "its streams have 11 bytes and it says 12"),
        (3, 11, "it holds 2 streams and says 3"),
    ):
        write_sums(catalog, streams, stored)
        assert [finding.what for finding in checked(disk)[1]] == [found]
        assert repaired(disk) == ["catalog: its streams and their bytes are counted again"]
        assert open_store(disk).usage == Usage(2, 11)


def test_directory_of_an_older_version_is_sound_without_the_number_of_bytes() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT, b"first"))
    store.run_checkpoint()
    forget_sums(SimulatedCatalog(disk))
    assert checked(disk)[1] == []


def record_of(disk: SimulatedDisk, needle: bytes) -> tuple[str, int]:
    """Returns the segment file that contains some bytes, and their position."""
    for name in disk.names("wal"):
        at = disk.content(f"wal/{name}").find(needle)
        if at >= 0:
            return f"wal/{name}", at
    raise AssertionError(needle)


def damage(disk: SimulatedDisk, needle: bytes) -> None:
    """Flips a bit in the record that contains some bytes."""
    disk.corrupt(*record_of(disk, needle), 0)


def state_of(store: FileStore, path: str) -> StreamState:
    state = store.find(path).result()
    assert state is not None
    return state


@pytest.fixture
def disk() -> SimulatedDisk:
    """A disk with four streams and a fork in the catalog, and nine appends that only the write-ahead log has."""
    disk = new_disk()
    store = open_store(disk)
    run(store, *(create(f"/{name}", TEXT, b"first of %s;" % name.encode()) for name in "abc"))
    run(store, create("/closed", TEXT, b"all;", closes=True))
    run(store, create("/fork", None, fork=fork_of("/a")))
    store.run_checkpoint()
    for number in range(1, 4):
        run(store, *(append(f"/{n}", b"%s%d;" % (n.encode(), number), TEXT) for n in "abc"))
    return disk


def fork_of(path: str) -> Fork:
    return Fork(path, None, None)


def test_repair_applies_records_behind_damaged_record(disk: SimulatedDisk) -> None:
    damage(disk, b"b2;")
    with pytest.raises(Damaged):
        open_store(disk)
    said = repaired(disk)
    store = open_store(disk)
    assert content(store, "/a") == b"first of a;a1;a2;a3;"
    assert content(store, "/b") == b"first of b;b1;"
    assert content(store, "/c") == b"first of c;c1;c2;c3;"
    assert content(store, "/closed") == b"all;"
    assert content(store, "/fork") == b"first of a;"
    assert any(line.startswith("/b: ") for line in said)
    kept = disk.content(f"{QUARANTINE}/records.jsonl")
    assert b'"path":"/b"' in kept


def test_only_stream_that_lost_bytes_gets_new_incarnation(
    disk: SimulatedDisk,
) -> None:
    store = open_store(disk)
    names = {path: state_of(store, path).name(13) for path in ("/a", "/b", "/c", "/closed")}
    ends = {path: state_of(store, path).name(state_of(store, path).tail) for path in names}
    damage(disk, b"b2;")
    repaired(disk)
    store = open_store(disk)
    run(store, append("/b", b"quite other bytes", TEXT))
    for path, name in names.items():
        state = state_of(store, path)
        if path == "/b":
            for offset in (name, ends[path]):
                with pytest.raises(Gone):
                    visible_position(state, parse(offset))
        elif path != "/closed":
            assert visible_position(state, parse(name)) == 13
            assert visible_position(state, parse(ends[path])) == state.tail


def test_open_streams_get_new_incarnations_if_lost_record_is_unreadable() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, *(create(f"/{name}", TEXT, b"x;") for name in "abc"))
    run(store, create("/closed", TEXT, b"all;", closes=True))
    store.run_checkpoint()
    run(store, append("/a", b"lost for good", TEXT), create("/new", TEXT, b"new"))
    olds = {path: state_of(store, path).incarnation for path in ("/a", "/b", "/c", "/closed")}
    damage(disk, b"lost for good")
    repaired(disk)
    store = open_store(disk)
    news = {path: state_of(store, path).incarnation for path in olds}
    assert {path for path in olds if news[path] != olds[path]} == {"/a", "/b", "/c"}
    assert content(store, "/new") == b"new"
    assert [content(store, path) for path in olds] == [b"x;", b"x;", b"x;", b"all;"]


def test_fork_reads_same_bytes_after_source_gets_new_incarnation(disk: SimulatedDisk) -> None:
    store = open_store(disk)
    run(store, append("/fork", b"own;", TEXT))
    damage(disk, b"a2;")
    repaired(disk)
    store = open_store(disk)
    assert content(store, "/fork") == b"first of a;own;"
    fork, source = state_of(store, "/fork"), state_of(store, "/a")
    assert fork.incarnation > source.incarnation
    names = [fork.name(at) for at in range(1, fork.tail + 1)]
    assert names == sorted(names)
    run(store, append("/fork", b"more;", TEXT), append("/a", b"again;", TEXT))
    store.run_checkpoint()
    again = open_store(disk)
    assert content(again, "/fork") == b"first of a;own;more;"
    assert content(again, "/a") == b"first of a;a1;again;"


def test_repair_without_write_ahead_log_uses_no_lsn_twice(disk: SimulatedDisk) -> None:
    last = open_store(disk).wal.last_lsn
    for name in disk.names("wal"):
        disk.unlink(f"wal/{name}")
    said = repaired(disk)
    store = open_store(disk)
    assert content(store, "/a") == b"first of a;"
    assert store.wal.last_lsn > last
    assert any("nothing shows" in line for line in said)
    run(store, append("/a", b"on;", TEXT))
    again = open_store(disk)
    assert content(again, "/a") == b"first of a;on;"


def test_intact_prefix_of_damaged_log_stays_readable(disk: SimulatedDisk) -> None:
    store = open_store(disk)
    store.run_checkpoint()
    run(store, append("/b", b"b4;", TEXT))
    old = state_of(store, "/b")
    (name,) = (
        f"logs/{directory}/{name}"
        for directory in disk.names("logs")
        for name in disk.names(f"logs/{directory}")
        if name == f"{old.incarnation:016d}"
    )
    whole = disk.content(name)
    disk.corrupt(name, whole.index(b"b2;"), 0)
    repaired(disk)
    store = open_store(disk)
    assert content(store, "/b") == b"first of b;b1;"
    assert content(store, "/a") == b"first of a;a1;a2;a3;"
    with pytest.raises(Gone):
        visible_position(state_of(store, "/b"), parse(old.name(11)))
    aside = {disk.content(f"{QUARANTINE}/{name}") for name in disk.names(QUARANTINE)}
    assert any(b"b1;" in each and b"b3;" in each for each in aside)
    run(store, append("/b", b"on;", TEXT))
    store.run_checkpoint()
    assert content(open_store(disk), "/b") == b"first of b;b1;on;"


def test_lost_index_header_is_rewritten_without_new_incarnation(disk: SimulatedDisk) -> None:
    old = state_of(open_store(disk), "/b")
    (name,) = (
        f"logs/{directory}/{name}"
        for directory in disk.names("logs")
        for name in disk.names(f"logs/{directory}")
        if name == f"{old.incarnation:016d}.idx"
    )
    disk.corrupt(name, 3, 0)
    repaired(disk)
    store = open_store(disk)
    assert state_of(store, "/b").incarnation == old.incarnation
    assert content(store, "/b") == b"first of b;b1;b2;b3;"


def test_bytes_in_separate_files_are_appended_to_log(disk: SimulatedDisk) -> None:
    old = state_of(open_store(disk), "/b")
    name = path_of(old.incarnation)
    disk.corrupt(name + ".idx", 3, 0)
    store = open_store(disk)
    store.run_checkpoint()
    assert disk.exists(name + KEPT)
    store.close()
    repaired(disk)
    assert not disk.exists(name + KEPT)
    store = open_store(disk)
    assert state_of(store, "/b").incarnation == old.incarnation
    assert content(store, "/b") == b"first of b;b1;b2;b3;"


# -- random damage ------------------------------------------------------


class Truth(Model):
    """The states after all records, and the bytes of each deleted stream.

    Attributes:
        ended: the bytes of deleted streams by path, in the order of deletion.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[str, list[bytes]] = {}

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            if isinstance(change, Removed):
                held = self.content(self.states[change.path])
                self.ended.setdefault(change.path, []).append(held)
            super().apply([change])


def simulation_of(seed: int) -> tuple[Simulation, Truth]:
    """Returns a simulation whose store died after all its records were durable, and the true states after these records."""
    simulation = Simulation(seed)
    simulation.chance.random()
    assert simulation.boot()
    simulation.live()
    simulation.settle()
    truth = Truth()
    for lsn in sorted(simulation.history):
        if lsn <= simulation.store.wal.durable_lsn:
            truth.apply(simulation.history[lsn])
    return simulation, truth


def damage_random_file(disk: SimulatedDisk, chance: random.Random) -> None:
    """Damages or deletes a random segment of the write-ahead log or a random log file."""
    files = [f"wal/{name}" for name in disk.names("wal")]
    if chance.random() < 0.3:
        logs = [
            f"logs/{directory}/{name}"
            for directory in disk.names("logs")
            for name in disk.names(f"logs/{directory}")
        ]
        files = logs or files
    name = chance.choice(files)
    size = disk.size(name)
    assert size is not None
    file = disk.open(name)
    kind = chance.choice(("flip", "flip", "zero", "delete", "truncate"))
    position = chance.randrange(max(1, size))
    if kind == "flip":
        used = max(1, len(disk.content(name).rstrip(b"\0")))
        disk.corrupt(name, chance.randrange(used), chance.randrange(8))
    elif kind == "zero":
        file.write(bytes(min(chance.choice((1, 100, 512)), size - position)), position)
    elif kind == "truncate":
        file.truncate(position)
    else:
        disk.unlink(name)
    file.sync()
    disk.sync_all()


def incarnations_in_gaps(simulation: Simulation, check: Check) -> set[int]:
    """Returns the incarnations that missing records have changed."""
    lost = set()
    for gap in check.gaps:
        for lsn, changes in simulation.history.items():
            if lsn > gap.after and (gap.before is None or lsn < gap.before):
                lost |= {each.incarnation for each in changes if isinstance(each, StreamChange)}
    return lost


def family_of(state: StreamState) -> set[int]:
    """Returns the incarnations of a stream and of all streams from which it was forked, directly or indirectly."""
    ancestors = {incarnation for incarnation, _, _ in state.extents(0, state.tail)}
    return {state.incarnation, *ancestors} | ({state.origin.incarnation} if state.origin else set())


def assert_no_false_bytes(store: FileStore, truth: Truth, lost: set[int] | None) -> None:
    """Requires that each stream holds a prefix of its true bytes, and all of them unless it may have lost some.

    A stream that kept its incarnation must have all its bytes. A stream with a new incarnation must refuse its old offsets.

    Args:
        store: a store that was opened after the repair.
        truth: the states that all records make.
        lost: incarnations that may have lost something; None if the end of the log may be missing without a finding.
    """
    for path in store.paths():
        state = state_of(store, path)
        was = truth.states.get(path)
        if was is None or state.incarnation < was.incarnation:
            assert lost is None or lost, "a stream that was deleted is back"
            continue
        found, whole = content(store, path), truth.content(was)
        lives = [whole, *truth.ended.get(path, ())]
        assert any(each.startswith(found) for each in lives), path
        if lost is None:
            continue
        if state.incarnation == was.incarnation or not family_of(was) & lost:
            assert found == whole, path
            assert state.closed == was.closed
            assert state.producers == was.producers
        if state.incarnation > was.incarnation and was.tail > was.base:
            for name in {was.name(was.base + 1), was.name(was.tail)}:
                with pytest.raises((Gone, BadRequest)):
                    visible_position(state, parse(name))
    if lost is not None:
        for path, was in truth.states.items():
            if not was.soft_deleted and not family_of(was) & lost:
                assert store.find(path).result() is not None, f"{path} is gone without a word"


@pytest.mark.parametrize("seed", range(120))
def test_repair_of_any_damage_survives_kill_at_any_call(seed: int) -> None:
    simulation, truth = simulation_of(seed)
    disk, chance = simulation.disk, random.Random(seed + 10_000)
    disk.before = no_fault
    last = simulation.store.wal.durable_lsn
    damage_random_file(disk, chance)
    check, findings = checked(disk)
    harm = [finding for finding in findings if not finding.harmless]
    lost = incarnations_in_gaps(simulation, check) | {
        truth.states[path].incarnation for path in check.prefixes if path in truth.states
    }
    for _ in range(6):
        at = disk.calls + chance.randint(1, 60)

        def before(_: str, at: int = at) -> None:
            if disk.calls == at:
                raise PowerLoss

        disk.before = before
        try:
            check, _found = checked(disk)
            list(repair(disk, SimulatedCatalog(disk), check, LATER))
            disk.before = no_fault
            break
        except PowerLoss:
            disk.before = no_fault
            if chance.random() < 0.7:
                disk.lose_power()
    check, _ = checked(disk)
    list(repair(disk, SimulatedCatalog(disk), check, LATER))
    assert [finding for finding in checked(disk)[1] if not finding.harmless] == []
    store = reopened(disk)
    # If the newest records are lost, the check may find nothing.
    assert_no_false_bytes(store, truth, lost if harm else None)
    assert not harm or store.wal.last_lsn >= last
    store.run_checkpoint()
    assert_no_false_bytes(reopened(disk), truth, lost if harm else None)


def reopened(disk: SimulatedDisk) -> FileStore:
    """Opens a store on the disk of a simulation."""
    return open_store(disk, segment_size=48 * 1024)
