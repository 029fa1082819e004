"""A store on a simulated disk, and helpers for tests that reconstruct its streams."""

from durable_streams_server.protocol.state import Appended
from durable_streams_server.storage.files.offline.intact_prefix import IntactPrefix
from durable_streams_server.storage.files.offline.outcome import Outcome, outcome_of
from durable_streams_server.storage.files.offline.reconstruction import Reconstruction
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.protocol.subscriptions.world import ROOT, subscribe
from tests.requests import NOW, create, fork_of
from tests.storage.files.stores import new_disk, open_store, run

TEXT = "text/plain"
LATER = NOW + 10**9
A, B, CLOSED, FORK = (f"{ROOT}/{name}" for name in ("a", "b", "closed", "fork"))


def disk_with_streams() -> SimulatedDisk:
    """Returns a disk with four streams of eight bytes each in the catalog.

    One stream is closed, and one is a fork of `A`. A subscription has unread bytes in `A`.
    """
    disk = new_disk()
    store = open_store(disk)
    store.configure(None, ROOT)
    run(store, subscribe("s", "token:s", streams=["a"]))
    run(store, create(A, TEXT, b"a" * 8), create(B, TEXT, b"b" * 8))
    run(store, create(CLOSED, TEXT, b"c" * 8, closes=True), create(FORK, None, fork=fork_of(A)))
    store.run_checkpoint()
    return disk


def reconstruction(
    disk: SimulatedDisk, prefixes: dict[str, IntactPrefix] | None = None, **options: bool
) -> Reconstruction:
    """Returns a reconstruction of the store on a disk, before any record is applied."""
    return Reconstruction(SimulatedCatalog(disk), prefixes or {}, **options)


def incarnation(disk: SimulatedDisk, path: str) -> int:
    """Returns the incarnation that the catalog has for a path."""
    entry = SimulatedCatalog(disk).find(path)
    assert entry is not None
    return entry.incarnation


def append_to(disk: SimulatedDisk, path: str, start: int = 8, data: bytes = b"more") -> Appended:
    """Returns an append to the stream at a path. By default, it begins at the stream's tail."""
    return Appended(path, incarnation(disk, path), start, data, False, LATER)


def outcome(found: Reconstruction) -> Outcome:
    """Returns the outcome of a reconstruction, for LSN 99."""
    return outcome_of(found, 99, LATER)


def renamed(disk: SimulatedDisk, found: Reconstruction) -> set[str]:
    """Returns the paths whose streams get a new incarnation."""
    olds = {move.old for move in outcome(found).moves}
    return {path for path in (A, B, CLOSED, FORK) if incarnation(disk, path) in olds}
