"""`durable-streams-server check` and `inspect`: what is in a data directory that no server has open."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from ..errors import StreamError
from ..protocol import lifetime
from ..protocol.state import StreamState
from ..storage.damage import Damaged
from ..storage.files.catalog import LmdbCatalog
from ..storage.files.directory import CATALOG, DirectoryInUse, DirectoryRefused, prepare
from ..storage.files.offline.directory_check import DirectoryCheck
from ..storage.files.offline.directory_repair import repair_directory
from ..storage.files.offline.findings import Finding
from ..storage.files.store import FileStore
from ..storage.files.system_disk import SystemDisk
from ..streams.clock import system_clock
from .exits import EXIT_DATA, EXIT_FAILED, fail
from .output import reason, shown
from .values import DIRECTORY

_SHOW_EVERY: Final = 10_000  # streams between two lines of progress


@click.command(
    epilog="Exit codes: 0 when all is well, 1 when something is damaged, 4 when DIR cannot be used."
)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option(
    "--repair",
    "repairs",
    is_flag=True,
    help="Move damaged parts to DIR/quarantine, and keep the rest.",
)
def check(directory: str, repairs: bool) -> None:
    """Verify every checksum in DIR, and that its parts agree."""
    with _one_line():
        findings = _report(DirectoryCheck(directory, _show_progress))
        if repairs and findings:
            for done in repair_directory(directory, system_clock()):
                click.echo(shown(done))
    if any(not finding.harmless for finding in findings):
        sys.exit(EXIT_FAILED)


def _report(checking: DirectoryCheck) -> list[Finding]:
    """Runs a check and shows what it finds."""
    findings = []
    for finding in checking.run():
        findings.append(finding)
        click.echo(_line(finding))
    looked = checking.totals
    if looked.new_streams or looked.new_bytes:
        click.echo(
            f"only the write-ahead log has {looked.new_streams} of the streams"
            f" and {looked.new_bytes} of the bytes"
        )
    click.echo(
        f"{looked.streams} streams, {looked.records} records in the log, {looked.bytes} bytes: "
        + (f"{len(findings)} findings" if findings else "all is well")
    )
    return findings


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Ends the command with one line where a directory cannot be used."""
    try:
        yield
    except (DirectoryRefused, Damaged, StreamError, OSError) as error:
        fail(reason(error), EXIT_DATA)


@click.command(epilog="Exit codes: 0, 1 when STREAM is not there, 4 when DIR cannot be used.")
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.argument("stream", required=False)
def inspect(directory: str, stream: str | None) -> None:
    """List the streams in DIR, or tell all that is known of STREAM. Nothing is changed."""
    with open_directory(directory, readonly=True) as (disk, catalog):
        states = FileStore(disk, catalog, readonly=True).states
        if stream is None:
            for path in sorted(states.paths()):
                state = states.visible(path)
                if state is not None:
                    closed = "closed" if state.closed else "open"
                    click.echo(
                        f"{shown(path)}\t{state.media.text}\t{state.tail - state.base}\t{closed}"
                    )
            return
        state = states.visible(stream)
        if state is None:
            fail(f"there is no stream {shown(stream)}", EXIT_FAILED)
        for name, value in _known(state):
            click.echo(f"{name}: {shown(str(value))}")


@contextlib.contextmanager
def open_directory(
    directory: str, in_use: str | None = None, *, readonly: bool = False
) -> Iterator[tuple[SystemDisk, LmdbCatalog]]:
    """Takes a data directory and opens its catalog; what is wrong with it ends the command with one line.

    Args:
        directory: where it is.
        in_use: what to do instead when a server has it.
        readonly: whether to look only, and to change nothing.
    """
    disk = SystemDisk(Path(directory), readonly=readonly)
    try:
        prepare(disk, directory, create=False, readonly=readonly)
        catalog = LmdbCatalog(str(disk.root / CATALOG), readonly=readonly)
        try:
            yield disk, catalog
        finally:
            catalog.close()
    except (DirectoryRefused, Damaged, StreamError, OSError) as error:
        instead = f"; {in_use}" if in_use and isinstance(error, DirectoryInUse) else ""
        fail(f"{reason(error)}{instead}", EXIT_DATA)
    finally:
        disk.release()


def _line(finding: Finding) -> str:
    stream = f" (stream {finding.path})" if finding.path is not None else ""
    return shown(f"{finding.where}{stream}: {finding.what}")


def _show_progress(done: int, total: int) -> None:
    if done % _SHOW_EVERY == 0:
        click.echo(f"{done} of {total} streams", err=True)


def _known(state: StreamState) -> Iterator[tuple[str, object]]:
    yield "path", state.path
    yield "incarnation", state.incarnation
    yield "content type", state.media.text
    offset = state.timeline.offset
    yield "created", moment(state.created_at + offset)
    yield "tail", state.name(state.tail)
    yield "bytes of its own", state.tail - state.base
    yield "closed", "yes" if state.closed else "no"
    yield "producers", len(state.producers)
    yield "forks", state.children
    if state.soft_deleted:
        yield "deleted", "yes, and kept for its forks"
    if state.origin is not None:
        yield "forked from", f"{state.origin.source} at {state.origin.anchor}"
    deadline = state.deadline()
    if deadline is not None:
        yield "expires", moment(deadline + offset)


def moment(microseconds: int) -> str:
    """Returns a time as people read it."""
    return lifetime.moment(microseconds).isoformat(timespec="seconds")
