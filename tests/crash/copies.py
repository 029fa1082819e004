"""Opens copies of a data directory and checks that each is correct or refused.

A copy may be taken while a store runs, so that each file comes from a different moment, or restored without some segments of the
write-ahead log. A copy that opens must equal some prefix of the history, and the prefix must reach at least the LSN of its catalog. The
copy must also keep working through any number of restarts. `python -m tests.crash.copies SEED` runs one seed.
"""

import copy
import random
import sys

from durable_streams_server.errors import StreamError
from durable_streams_server.protocol.commands import Command, Delete
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.directory import prepare
from durable_streams_server.storage.files.limits import Limits
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.crash.model import Model
from tests.crash.recorders import History, RecordingShell
from tests.requests import NOW, append, create

SEGMENT = 48 * 1024
PATHS = [f"/{letter}" for letter in "abcde"]
TEXT = "text/plain"
RESTARTS = 20

Moment = tuple[dict[str, bytes], object]  # the files and the catalog


class Copies:
    """One seeded run.

    Args:
        seed: decides everything that happens.

    Attributes:
        history: the changes of each record of the store, by LSN.
        is_refused: whether the copy was refused.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.history: History = {}
        self.is_refused = False

    def run(self) -> None:
        """Runs a store, copies it, and opens the copy many times."""
        disk = SimulatedDisk(random.Random(self.chance.random()))
        prepare(disk, "data")
        store = self.open(disk)
        moments = []
        for _ in range(self.chance.randint(2, 12)):
            self.work(store, self.chance.randint(1, 40))
            moments.append(moment_of(disk))
        whole = self.chance.random() < 0.5
        copied = self.mix(moments[-1:] if whole else moments)
        try:
            proven = SimulatedCatalog(copied).meta().lsn
            store = self.open(copied)
        except Damaged:
            self.is_refused = True
            return
        last = store.wal.last_lsn
        assert last >= proven, "the copy lacks what its catalog proves"
        assert last in self.history or last == 0
        for lsn in [lsn for lsn in self.history if lsn > last]:
            del self.history[lsn]
        self.compare(store, exact=whole)
        for _ in range(RESTARTS):
            self.work(store, self.chance.randint(1, 12))
            store = self.open(copied)
            self.compare(store, exact=whole)

    def open(self, disk: SimulatedDisk) -> FileStore:
        """Opens the store on a disk and records its history."""
        store = FileStore(
            disk,
            SimulatedCatalog(disk),
            segment_size=SEGMENT,
            limits=Limits(checkpoint_bytes=20_000, max_unflushed=60_000),
        )
        store.shell = RecordingShell(store, self.history)
        return store

    def work(self, store: FileStore, count: int) -> None:
        """Commits `count` random commands, with a checkpoint after every tenth or so."""
        for _ in range(count):
            path = self.chance.choice(PATHS)
            store.execute(self.draw_command(path), NOW)
            store.commit_once()
            if self.chance.random() < 0.1:
                store.run_checkpoint()

    def draw_command(self, path: str) -> Command:
        kind = self.chance.random()
        if kind < 0.2:
            return create(path, TEXT)
        if kind < 0.27:
            return Delete(path)
        return append(path, b"x" * self.chance.choice((1, 50, 3_000, 9_000)), TEXT)

    def mix(self, moments: list[Moment]) -> SimulatedDisk:
        """Returns a disk with each file as it was at one of the moments. In some runs, segments are missing."""
        copied = SimulatedDisk(random.Random(0))
        names = {name for files, _ in moments for name in files}
        share = self.chance.choice((0.0, 0.0, 0.2, 0.6))
        catalog = self.chance.choice(moments)
        taken: dict[str, Moment] = {}
        if self.chance.random() < 0.7:
            # In the other runs, the catalog and its second copy may come from two moments.
            taken["catalog/copy"] = catalog
        for name in sorted(names):
            # A log and its index come from one moment, because an index that is too short is damage of another kind.
            moment = taken.setdefault(name.removesuffix(".idx"), self.chance.choice(moments))
            data = moment[0].get(name)
            if data is None or (name.startswith("wal/") and self.chance.random() < share):
                continue
            file = copied.open(name, create=True)
            file.write(data, 0)
            file.sync()
        copied.catalog = copy.deepcopy(catalog[1])
        return copied

    def compare(self, store: FileStore, *, exact: bool) -> None:
        """Compares the whole store with the model of its records.

        Args:
            store: the store.
            exact: whether every stream must be readable. Otherwise a stream whose log comes from another moment may be refused.
        """
        model = Model()
        for lsn in range(1, store.wal.last_lsn + 1):
            model.apply(self.history[lsn])
        assert set(store.paths()) == set(model.states)
        for path, expected in model.states.items():
            try:
                state = store.find(path).result()
                assert state is not None
                assert (state.incarnation, state.tail) == (expected.incarnation, expected.tail)
                data = store.read_bytes(state.incarnation, 0, state.tail).result()
            except StreamError:
                assert not exact, f"{path} is refused, though its log is whole"
            else:
                assert data == model.content(expected), f"{path} has other bytes"


def moment_of(disk: SimulatedDisk) -> Moment:
    """Returns the contents of a disk."""
    files = {name: disk.content(name) for name in disk.paths()}
    return files, copy.deepcopy(disk.catalog)


def is_refused(seed: int) -> bool:
    """Runs one seed, and returns whether the copy was refused.

    Raises:
        AssertionError: the run failed. The message has the command that repeats it.
    """
    run = Copies(seed)
    try:
        run.run()
    except BaseException as error:
        raise AssertionError(f"seed {seed} fails: python -m tests.crash.copies {seed}") from error
    return run.is_refused


if __name__ == "__main__":
    is_refused(int(sys.argv[1]))
