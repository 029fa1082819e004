"""Splits large JSON bodies in short steps before their command is decided. Splitting 64 MiB at once would block the event loop for 0.5 s."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ..errors import StreamError
from ..protocol.commands import Append, Body, Create, Splitting
from ..protocol.json import mode as json_mode
from ..protocol.media import Kind
from ..protocol.state import StreamState
from ..storage.store import Store
from ..storage.ticket import Ticket
from .turns import Turns

C = TypeVar("C", Append, Create)


def is_ready(command: Append | Create) -> bool:
    """Returns whether a command can be decided without `prepare`."""
    return command.body.splitting is None and not _depends_on_source(command)


def prepare(store: Store, turns: Turns, command: C) -> Ticket[C]:
    """Splits the body of a command in steps, and returns a ticket for the command that is ready.

    Cancelling the ticket stops the work and releases the body.
    """
    splitting = command.body.splitting
    if splitting is not None:
        return _split(turns, splitting).then(lambda body: Ticket.of(_replaced(command, body)))
    if isinstance(command, Create) and command.fork is not None and _depends_on_source(command):
        raw = command.body.wire

        def with_source_kind(kind: Kind | None) -> Ticket[C]:
            if kind is not Kind.JSON:
                return Ticket.of(command)
            work = Splitting(raw, allow_empty=True, is_json=True)
            return _split(turns, work).then(lambda body: Ticket.of(_replaced(command, body)))

        return _kind(store, command.fork.source).then(with_source_kind)
    return Ticket.of(command)


def _depends_on_source(command: Append | Create) -> bool:
    """Returns whether a command has a large body that may be JSON, depending on the content type of the fork's source."""
    return (
        isinstance(command, Create)
        and command.media is None
        and command.fork is not None
        and json_mode.is_large(command.body.wire)
    )


def _kind(store: Store, path: str) -> Ticket[Kind | None]:
    """Returns the kind of a stream, or None if the stream cannot be read. If it cannot, the decision raises the error."""
    ticket: Ticket[Kind | None] = Ticket()

    def hand_over(found: Ticket[StreamState | None]) -> None:
        try:
            state = found.result()
        except StreamError:
            state = None
        except Exception as error:
            ticket.fail(error)
            return
        ticket.resolve(None if state is None else state.media.kind)

    store.find(path).add_callback(hand_over)
    return ticket


def _replaced(command: C, body: Body) -> C:
    return msgspec.structs.replace(command, body=body)


def _split(turns: Turns, work: Splitting) -> Ticket[Body]:
    ticket: Ticket[Body] = Ticket()

    def step() -> bool:
        try:
            if not ticket.done and work.step():
                return True
        except Exception as error:
            ticket.fail(error)
        work.release()
        ticket.resolve(work.body)
        return False

    turns.add(step)
    return ticket
