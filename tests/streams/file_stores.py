"""File stores in temporary directories, and copies of them as a crash would leave them."""

import shutil
from pathlib import Path

from durable_streams_server import FileBackedStreamStore


def open_store(path: Path) -> FileBackedStreamStore:
    """Opens the store in a directory, with small segments."""
    return FileBackedStreamStore(path, segment_size=1 << 20)


def copy_as_after_kill(path: Path) -> Path:
    """Copies a data directory as it is at this moment, which is what a killed process leaves. Returns the copy's path."""
    return Path(shutil.copytree(path, f"{path}-killed"))
