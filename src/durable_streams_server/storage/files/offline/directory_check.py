"""The command `check`: checks FORMAT, the catalog's files, and then every part that the catalog refers to."""

from collections.abc import Callable, Iterator

from ..catalog import LmdbCatalog, verify_catalog
from ..directory import CATALOG
from ..disk import EntryType
from ..lock import LOCK
from ..log_layout import DIRECTORY as LOGS
from ..segments import DIRECTORY as WAL
from ..system_disk import SystemDisk
from .check import Check
from .findings import Finding, Totals
from .format_file import lock_directory
from .strangers import stranger, strangers


class DirectoryCheck:
    """One check of a whole data directory.

    Args:
        path: the directory.
        progress: called with the number of streams checked so far and the number of all streams.

    Attributes:
        totals: the amounts that were checked. Complete once `run` has ended.
    """

    def __init__(self, path: str, progress: Callable[[int, int], None] = lambda *_: None) -> None:
        self._path = path
        self._progress = progress
        self.totals = Totals(0, 0, 0, 0, 0)

    def run(self) -> Iterator[Finding]:
        """Checks every part of the directory without changing it, and yields each fault.

        Raises:
            DirectoryRefused: the directory has no store, or another process has locked it.
            OSError: a file cannot be read.
        """
        disk = SystemDisk(self._path, readonly=True)
        try:
            if (wrong := stranger(disk, LOCK, EntryType.FILE)) is not None:
                # Without the lock file, a check cannot know whether a server uses the directory.
                yield Finding(LOCK, wrong)
                return
            yield from lock_directory(disk, self._path)
            wrong_places = dict(strangers(disk))
            yield from (Finding(path, what) for path, what in wrong_places.items())
            for part in (CATALOG, LOGS, WAL):
                if not disk.exists(part):
                    yield Finding(part, "the directory is missing")
            is_catalog_sound = not any(path.startswith(CATALOG) for path in wrong_places)
            if is_catalog_sound and disk.exists(CATALOG):
                yield from self._check_contents(disk)
        finally:
            disk.release()

    def _check_contents(self, disk: SystemDisk) -> Iterator[Finding]:
        """Checks the catalog's files and, if these are intact, every part that the catalog refers to."""
        path = str(disk.root / CATALOG)
        is_whole = True
        for each in verify_catalog(path):
            is_whole &= each.harmless
            yield Finding(f"{CATALOG}/{each.file}", each.what, harmless=each.harmless)
        if not is_whole:
            return
        catalog = LmdbCatalog(path, readonly=True)
        try:
            check = Check(disk, catalog, self._progress)
            yield from check.run()
            self.totals = check.totals
        finally:
            catalog.close()
