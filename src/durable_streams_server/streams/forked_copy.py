"""The copy of an open store that a child process has after `fork()`. It refuses every call, because the store belongs to the parent."""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from ..log import log as _log
from ..storage.files.forked import refusal
from ..storage.store import Store
from ..storage.ticket import Ticket
from .calls import Calls


class ForkedCopy(Store):
    """A mixin that refuses every method of a store with StoreForked.

    In a child process, an open store changes its class to one that inherits from this class first.
    """

    def configure(self, *_: object) -> NoReturn:
        raise refusal()

    def limit(self, *_: object) -> NoReturn:
        raise refusal()

    @property
    def usage(self) -> NoReturn:
        raise refusal()

    def attach(self, _: asyncio.AbstractEventLoop, __: Callable[[BaseException], None], /) -> None:
        """Logs the error with which every request will be answered."""
        _log.critical("%s", refusal())

    def detach(self) -> None:
        return

    def execute(self, *_: object) -> Ticket[Any]:
        return Ticket.failed(refusal())

    def probe(self) -> Ticket[None]:
        return Ticket.failed(refusal())

    def find(self, _: str) -> Ticket[Any]:
        return Ticket.failed(refusal())

    def read_bytes(self, *_: object) -> Ticket[bytes]:
        return Ticket.failed(refusal())

    def marks(self, *_: object) -> Ticket[Any]:
        return Ticket.failed(refusal())

    def touch(self, *_: object) -> None:
        return

    def due(self, _: int) -> tuple[()]:
        return ()

    def next_deadline(self) -> None:
        return None

    def paths(self) -> NoReturn:
        raise refusal()

    def ordered_paths(self, *_: object) -> NoReturn:
        raise refusal()

    def close(self) -> None:
        return


class RefusedCalls(Calls):
    """Refuses every synchronous call with StoreForked.

    The child cannot use the parent's object, whose lock may be held by a thread that does not exist in the child.
    """

    def __init__(self) -> None:
        """Creates neither the lock nor the state of `Calls`."""

    def run(self, _: object) -> NoReturn:
        raise refusal()
