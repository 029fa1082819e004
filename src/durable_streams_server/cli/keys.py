"""`durable-streams-server keys`: lists and rotates the signing keys in a data directory that no server uses. It never shows secrets."""

from typing import Final

import click

from ..protocol.subscriptions.commands import KeepKeys
from ..storage.files.disk import Disk
from ..storage.files.segments import DIRECTORY as WAL
from ..storage.files.store import FileStore
from ..storage.files.wal_sizes import DEFAULT_SEGMENT_SIZE, MIN_SIZE, segment_size_of
from ..streams.clock import clock_of, system_clock
from .data import moment, open_directory
from .values import DIRECTORY

_IF_IN_USE: Final = "send its process SIGHUP and it rotates its keys itself"


@click.group()
def keys() -> None:
    """List or rotate the keys with which the server signs webhooks and worker tokens."""


@keys.command("list", epilog="Exit codes: 0, 4 when DIR cannot be used.")
@click.argument("directory", metavar="DIR", type=DIRECTORY)
def list_(directory: str) -> None:
    """List the keys in DIR, the active one first. Nothing is changed."""
    with open_directory(directory, readonly=True) as (disk, catalog):
        _show(FileStore(disk, catalog, readonly=True))


@keys.command("rotate", epilog="Exit codes: 0, 4 when DIR cannot be used.")
@click.argument("directory", metavar="DIR", type=DIRECTORY)
def rotate_(directory: str) -> None:
    """Create a new active key in DIR.

    Retired keys stay published for an hour, and their signatures stay valid for as long. A running server locks DIR: send it SIGHUP
    instead, and it rotates its keys itself.
    """
    from ..subscriptions.keys import rotate

    with open_directory(directory, if_in_use=_IF_IN_USE) as (disk, catalog):
        store = FileStore(disk, catalog, segment_size=_segment_size(disk))
        now = clock_of(store.timeline, system_clock)()
        old = store.subscriptions.keys
        ticket = store.execute(KeepKeys(rotate(old, now), tuple(key.kid for key in old)), now)
        store.shell.wait_for(ticket)
        ticket.result()
        store.run_checkpoint()
        _show(store)


def _segment_size(disk: Disk) -> int:
    """Returns the size of the largest segment in bytes, so that the write-ahead log keeps the size that the server chose."""
    largest = max((disk.size(f"{WAL}/{name}") or 0 for name in disk.names(WAL)), default=0)
    return largest if largest >= segment_size_of(MIN_SIZE) else DEFAULT_SEGMENT_SIZE


def _show(store: FileStore) -> None:
    """Prints a line for each key: its id, its age and its state."""
    from ..subscriptions.keys import kept_until

    offset = store.timeline.offset
    for key in store.subscriptions.keys:
        until = kept_until(key)
        state = "active" if until is None else f"retired, published until {moment(until + offset)}"
        click.echo(f"{key.kid}\tmade {moment(key.created_at + offset)}\t{state}")
