"""`durable-streams-server check` and `inspect`: commands that read a data directory while no server uses it."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from ..errors import StreamError
from ..protocol import lifetime
from ..protocol.state import StreamState
from ..protocol.subscriptions.subscription import Subscription
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

_PROGRESS_STEP: Final = 10_000  # streams between two lines of progress


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
    """Verify every checksum in DIR, and check that its files agree with each other."""
    with _exit_if_unusable():
        findings = _report(DirectoryCheck(directory, _show_progress))
        if repairs and findings:
            for done in repair_directory(directory, system_clock()):
                click.echo(shown(done))
    if any(not finding.harmless for finding in findings):
        sys.exit(EXIT_FAILED)


def _report(checking: DirectoryCheck) -> list[Finding]:
    """Runs a check, prints its findings and a summary, and returns the findings."""
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
def _exit_if_unusable() -> Iterator[None]:
    """Prints the error of an unusable directory as one line, and exits with code 4."""
    try:
        yield
    except (DirectoryRefused, Damaged, StreamError, OSError) as error:
        fail(reason(error), EXIT_DATA)


@click.command(epilog="Exit codes: 0, 1 when STREAM is not there, 4 when DIR cannot be used.")
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.argument("stream", required=False)
@click.option(
    "--subscriptions",
    "lists_subscriptions",
    is_flag=True,
    help="List the subscriptions instead: id, type, pattern, links, streams with news, and the client that created it.",
)
def inspect(directory: str, stream: str | None, lists_subscriptions: bool) -> None:
    """List the streams or subscriptions in DIR, or show the properties of STREAM. Nothing is changed."""
    if stream is not None and lists_subscriptions:
        raise click.UsageError("--subscriptions lists all subscriptions, so it goes without STREAM")
    with open_directory(directory, readonly=True) as (disk, catalog):
        store = FileStore(disk, catalog, readonly=True)
        states = store.states
        if lists_subscriptions:
            for subscription in sorted(store.subscriptions, key=lambda each: each.id):
                click.echo(_subscription_line(subscription))
            return
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
        for name, value in _properties(state):
            click.echo(f"{name}: {shown(str(value))}")


@contextlib.contextmanager
def open_directory(
    directory: str, *, readonly: bool = False, exits_if_in_use: bool = True
) -> Iterator[tuple[SystemDisk, LmdbCatalog]]:
    """Locks a data directory and opens its catalog. If the directory cannot be used, prints one line and exits.

    Args:
        directory: The path of the directory.
        readonly: Whether to change nothing in the directory.
        exits_if_in_use: Whether to exit also if a server uses the directory.

    Raises:
        DirectoryInUse: A server uses the directory, and `exits_if_in_use` is False.
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
        if isinstance(error, DirectoryInUse) and not exits_if_in_use:
            raise
        fail(reason(error), EXIT_DATA)
    finally:
        disk.release()


def _line(finding: Finding) -> str:
    """Returns a finding as one printable line."""
    stream = f" (stream {finding.path})" if finding.path is not None else ""
    return shown(f"{finding.where}{stream}: {finding.what}")


def _show_progress(done: int, total: int) -> None:
    """Prints a line of progress after every 10,000 streams."""
    if done % _PROGRESS_STEP == 0:
        click.echo(f"{done} of {total} streams", err=True)


def _properties(state: StreamState) -> Iterator[tuple[str, object]]:
    """Yields the name and the value of each property of a stream that `inspect` shows."""
    yield "path", state.path
    yield "incarnation", state.incarnation
    yield "content type", state.media.text
    offset = state.timeline.offset
    yield "created", moment(state.created_at + offset)
    yield "tail", state.name(state.tail)
    yield "bytes of its own", state.tail - state.base
    yield "closed", "yes" if state.closed else "no"
    yield "public", "yes" if state.public else "no"
    yield "producers", len(state.producers)
    yield "forks", state.children
    if state.soft_deleted:
        yield "deleted", "yes, and kept for its forks"
    if state.origin is not None:
        yield "forked from", f"{state.origin.source} at {state.origin.anchor}"
    deadline = state.deadline()
    if deadline is not None:
        yield "expires", moment(deadline + offset)


def _subscription_line(subscription: Subscription) -> str:
    """Returns what `inspect` shows of a subscription, as one line. The owner is shown to operators only, never to clients."""
    config = subscription.config
    columns = (
        subscription.id,
        config.kind,
        config.pattern or "-",
        f"{len(subscription.links)} links",
        f"{len(subscription.cursors)} with news",
        subscription.owner or "-",
    )
    return "\t".join(map(shown, columns))


def moment(microseconds: int) -> str:
    """Returns a time, in microseconds since 1970, in ISO 8601 with seconds."""
    return lifetime.moment(microseconds).isoformat(timespec="seconds")
