"""File stores in temporary directories, and copies of these directories as a kill would leave them."""

import shutil
from pathlib import Path

from durable_streams_server import FileBackedStreamStore


def open_store(path: Path) -> FileBackedStreamStore:
    """Opens the store in a directory, with small segments."""
    return FileBackedStreamStore(path, segment_size=1 << 20)


def copy_as_after_kill(path: Path) -> Path:
    """Copies a data directory in its present state, which is the state that a kill would leave. Returns the path of the copy."""
    return Path(shutil.copytree(path, f"{path}-killed"))
