"""Settings of the place where streams are kept."""

import dataclasses
from typing import Final

from ...protocol.names import DEFAULT_STREAM_ROOT
from ...protocol.paths import normalize_root
from ...protocol.units import MIB
from ...storage.files.wal_sizes import DEFAULT_SIZE, MAX_SIZE, MIN_SIZE
from ..values import DIRECTORY, Checked, Size
from .definition import Topic, setting
from .sources import Sources

DEFAULT_DATA_DIR: Final = "./durable-streams-data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Streams(Topic):
    """Where streams are kept: in a directory or in memory, and below which path."""

    data_dir: str = setting(
        DEFAULT_DATA_DIR,
        "Directory to keep streams in; made if it is not there.",
        kind=DIRECTORY,
    )
    create: bool = setting(
        True,
        "Make a store in the data directory if there is none; --no-create refuses such a directory, "
        "for example a mount that is not mounted.",
    )
    memory: bool = setting(False, "Keep streams in memory only.")
    wal_size: int | None = setting(
        None,
        "Bytes of disk that the write-ahead log may take; a sixth of them must take the largest body.",
        kind=Size(MIN_SIZE, MAX_SIZE),
        unset=f"{DEFAULT_SIZE // MIB}m, or as many as --max-body needs",
        example=DEFAULT_SIZE,
    )
    stream_root: str = setting(
        DEFAULT_STREAM_ROOT,
        "Path under which __ds is reserved.",
        kind=Checked("path", normalize_root),
    )

    def check(self, sources: Sources) -> None:
        """Refuses settings of a data directory together with `--memory`.

        Raises:
            click.UsageError: Two settings exclude each other.
        """
        if self.memory:
            for name in ("data_dir", "create", "wal_size"):
                sources.refuse_both("memory", name)
