"""Waits for the reply to a request that is not answered at once, cancels a read when its client leaves, and holds refusals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from ...storage.ticket import Abandoned, Cancelled, Ticket
from ..limits.refusals import HOLD
from ..replies import Live, Reply
from ..request import Request
from .receiving import Receive, Scope

#: Key that `hold_refusal` sets in the ASGI scope of a request.
HELD: Final = "durable_streams_server.held"


class Wake:
    """What the handler calls to wake the task of a GET request. Its hash is the key of the connection.

    Args:
        client: the client's address and port, from the ASGI scope.

    Attributes:
        event: what the task waits for.
    """

    __slots__ = ("_client", "event")

    def __init__(self, client: Iterable[object] | None) -> None:
        self.event = asyncio.Event()
        self._client = client

    def __call__(self) -> None:
        self.event.set()

    def __hash__(self) -> int:
        return key_of(self._client, self.event)


def key_of(client: Iterable[object] | None, otherwise: object) -> int:
    """Returns the key of a connection, which is the same for all its requests.

    Args:
        client: the client's address and port, or None if the host does not tell them.
        otherwise: an object whose identity is the key if `client` is None.
    """
    return id(otherwise) if client is None else hash(tuple(client))


async def wait_for_reply(request: Request, ticket: Ticket[Reply], receive: Receive) -> Reply | None:
    """Waits for a ticket and returns its reply, or None if the client of a read leaves. A write is always completed.

    Raises:
        Abandoned: The store has stopped, so nobody knows the outcome of the request.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()

    def wake(_: Ticket[Reply]) -> None:
        if not answered.done():
            answered.set_result(None)

    ticket.add_callback(wake)
    if request.method != "GET":
        await answered
        return ticket.result()

    async def watch() -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:  # also if the host fails, because then nobody would notice the client leaving
            ticket.cancel()

    watcher = asyncio.create_task(watch())
    try:
        await answered
        return ticket.result()
    except Cancelled:
        return None
    except asyncio.CancelledError:
        ticket.add_callback(_close_unsent)
        raise
    finally:
        watcher.cancel()
        ticket.cancel()


def _close_unsent(ticket: Ticket[Reply]) -> None:
    """Closes the event stream that a cancelled request will never send."""
    with contextlib.suppress(Cancelled, Abandoned):
        reply = ticket.result()
        if isinstance(reply, Live):
            reply.events.close()


async def hold_refusal(scope: Scope, receive: Receive) -> None:
    """Waits for `HOLD` seconds before the server refuses a request whose body has not been received.

    Over HTTP/2, drops the parts of the body that arrive meanwhile, and returns early if the client leaves. Otherwise the host would stop reading from the
    connection, so all its streams would wait.
    """
    scope[HELD] = True  # so that a server that stops still sends the refusal
    if scope.get("http_version") != "2":
        await asyncio.sleep(HOLD)
    else:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD):
                while (await receive())["type"] == "http.request":
                    pass
