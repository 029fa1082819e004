"""`durable-streams-server keys`: lists and rotates the signing keys in a data directory. It never shows secrets.

A running server has locked its directory. It rotates the keys itself when the command asks it to, over the socket in the directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from ..http.asgi.application import DurableStreamsApp
from ..http.serving.command_socket import Command, CommandRefused, ask
from ..log import log as _log
from ..protocol.signing import Key
from ..protocol.subscriptions.commands import KeepKeys
from ..storage.files.directory import DirectoryInUse
from ..storage.files.disk import Disk
from ..storage.files.segments import DIRECTORY as WAL
from ..storage.files.store import FileStore
from ..storage.files.wal_sizes import DEFAULT_SEGMENT_SIZE, MIN_SIZE, segment_size_of
from ..storage.ticket import Ticket
from ..streams.clock import clock_of, system_clock
from .data import moment, open_directory
from .exits import EXIT_DATA, EXIT_FAILED, fail
from .output import reason
from .values import DIRECTORY

#: The name of the command that a running server obeys.
_ROTATE: Final = "rotate-keys"


@click.group()
def keys() -> None:
    """List or rotate the keys with which the server signs webhooks and worker tokens."""


@keys.command("list", epilog="Exit codes: 0, 4 when DIR cannot be used.")
@click.argument("directory", metavar="DIR", type=DIRECTORY)
def list_(directory: str) -> None:
    """List the keys in DIR, the active one first. Nothing is changed."""
    with open_directory(directory, readonly=True) as (disk, catalog):
        store = FileStore(disk, catalog, readonly=True)
        _show(_lines(store.subscriptions.keys, store.timeline.offset))


@keys.command(
    "rotate",
    epilog="Exit codes: 0, 1 when a running server fails to do it, 4 when DIR cannot be used.",
)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
def rotate_(directory: str) -> None:
    """Create a new active key in DIR, and list the keys. If a server runs on DIR, the server creates the key and uses it at once.

    Retired keys stay published for an hour, and their signatures stay valid for as long.
    """
    try:
        _show(_rotate_at_rest(directory))
    except DirectoryInUse as in_use:
        _show(_rotate_in_server(directory, in_use))


def running_commands(app: DurableStreamsApp) -> Mapping[str, Command]:
    """Returns the commands that a running server obeys, by their names."""

    def rotate() -> Ticket[list[str]]:
        return app.service.credentials.rotate().then(lambda keys: Ticket.of(rotated(keys)))

    def rotated(keys: tuple[Key, ...]) -> list[str]:
        # At a level that is shown by default, because an operator asked for the rotation.
        _log.warning("the keys are rotated: %s signs from now on", keys[0].kid)
        return _lines(keys, app.engine.store.timeline.offset)

    return {_ROTATE: rotate}


def _rotate_at_rest(directory: str) -> list[str]:
    """Rotates the keys in a directory that no server uses, and returns a line for each key.

    Raises:
        DirectoryInUse: A server uses the directory.
    """
    from ..subscriptions.keys import rotate

    with open_directory(directory, exits_if_in_use=False) as (disk, catalog):
        store = FileStore(disk, catalog, segment_size=_segment_size(disk))
        now = clock_of(store.timeline, system_clock)()
        old = store.subscriptions.keys
        ticket = store.execute(KeepKeys(rotate(old, now), tuple(key.kid for key in old)), now)
        store.shell.wait_for(ticket)
        ticket.result()
        store.run_checkpoint()
        return _lines(store.subscriptions.keys, store.timeline.offset)


def _rotate_in_server(directory: str, in_use: DirectoryInUse) -> list[str]:
    """Asks the server that uses a directory to rotate its keys, and returns a line for each key. If the server fails, prints why and exits."""
    try:
        lines: list[str] = ask(directory, _ROTATE)
    except CommandRefused as refused:
        fail(f"the server of {directory} did not rotate its keys: {refused}", EXIT_FAILED)
    except OSError as error:
        fail(f"{in_use}, which obeys no commands ({reason(error)}): stop it first", EXIT_DATA)
    return lines


def _segment_size(disk: Disk) -> int:
    """Returns the size of the largest segment in bytes, so that the write-ahead log keeps the size that the server chose."""
    largest = max((disk.size(f"{WAL}/{name}") or 0 for name in disk.names(WAL)), default=0)
    return largest if largest >= segment_size_of(MIN_SIZE) else DEFAULT_SEGMENT_SIZE


def _lines(keys: tuple[Key, ...], offset: int) -> list[str]:
    """Returns a line for each key: its id, its age and its state.

    Args:
        keys: The keys.
        offset: What to add to the steady time of the keys to get the wall clock, in microseconds.
    """
    from ..subscriptions.keys import kept_until

    lines = []
    for key in keys:
        until = kept_until(key)
        state = "active" if until is None else f"retired, published until {moment(until + offset)}"
        lines.append(f"{key.kid}\tmade {moment(key.created_at + offset)}\t{state}")
    return lines


def _show(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)
