"""Makes the directories that contain the logs, and remembers which of them exist."""

from .disk import Disk
from .log_layout import DIRECTORY, directory_of


class LogDirectories:
    """Keeps the set of log directories whose names are known to be durable.

    Args:
        disk: the disk that holds the logs.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._known: set[str] = set()

    def make(self, incarnation: int) -> None:
        """Makes the directory of a stream's log, unless it is known to exist, and syncs its name."""
        directory = directory_of(incarnation)
        if directory not in self._known:
            self._disk.make_directory(directory)
            # The sync is needed for an old directory too, because the process that made it may have died before it synced the name.
            self._disk.sync_directory(DIRECTORY)
            self._known.add(directory)

    def knows(self, incarnation: int) -> bool:
        """Returns whether the directory of a stream's log is known to exist."""
        return directory_of(incarnation) in self._known

    def forget(self, incarnation: int) -> None:
        """Forgets that the directory of a stream's log exists, so that `make` makes it if it is missing."""
        self._known.discard(directory_of(incarnation))
