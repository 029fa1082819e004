"""One delivery of a wake to a webhook, from what is durable to what its answer means (PROTOCOL 7.1)."""

import asyncio
import random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from ..errors import Conflict, NotFound, StreamError
from ..log import log as _log
from ..protocol.lifetime import MICROSECONDS
from ..protocol.names import MAX_RETRY_DELAY, RETRY_JITTER
from ..protocol.offsets import parse
from ..protocol.signing import SIGNATURE_HEADER
from ..protocol.subscriptions import render
from ..protocol.subscriptions.commands import (
    Acknowledge,
    Delivered,
    Grant,
    SubscriptionCommand,
    Undelivered,
)
from ..protocol.subscriptions.decide import View
from ..storage.ticket import Abandoned
from . import keys
from .client import Reply
from .network import DeliveryFailed
from .slots import Slots

if TYPE_CHECKING:
    from .service import Service

_FIRST_DELAY: Final = 1.0  # seconds, PROTOCOL 7.1
_AGAIN: Final = 1.0  # seconds until a store that had no room is asked again


class _Answer(msgspec.Struct):
    done: bool = False


class Deliveries:
    """The deliveries that are under way."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._slots = Slots()
        self._tasks: dict[Grant, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, view: View) -> None:
        """Delivers a wake, unless it is being delivered: a new attempt may come up before the last one has quite ended."""
        grant = view.grant
        if grant in self._tasks:
            self._service.try_again(view.id)
            return
        task = asyncio.get_running_loop().create_task(self._run(view))
        self._tasks[grant] = task
        task.add_done_callback(lambda _: self._tasks.pop(grant, None))

    async def stop(self) -> None:
        """Breaks off what is under way; it is delivered again after the next start."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, view: View) -> None:
        """Waits for a place, looks at the subscription once more, delivers, and makes the result durable."""
        url = view.config.webhook_url
        assert url is not None
        host = urlsplit(url).hostname or ""
        await self._slots.take(host)
        try:
            fresh = await self._service.look(view.grant)
            command = None if fresh is None else await self._attempt(fresh, url)
        except (NotFound, Abandoned):
            return  # the subscription is gone, or the store
        except Exception as error:
            if not isinstance(error, StreamError):  # the store cannot say now what to deliver
                _log.exception("a delivery of %s went wrong", view.id)
            self._service.try_again(view.id)
            return
        finally:
            self._slots.give_back(host)
        if command is not None:
            await self._keep(command)

    async def _attempt(self, view: View, url: str) -> SubscriptionCommand:
        service = self._service
        if service.public_url is None:  # it was known when the subscription was made
            _log.error("%s is not delivered: the server's public URL is not set", view.id)
            return self._failed(view, timed_out=False)
        sent_at = service.clock()
        timestamp = service.clock.wall() // MICROSECONDS  # the receiver's clock judges it
        body = msgspec.json.encode(self._document(view))
        signature = keys.sign(service.active_key, timestamp, body)
        headers = [
            (b"content-type", b"application/json"),
            (SIGNATURE_HEADER, signature.encode("ascii")),
        ]
        lease = view.config.lease_ttl / 1000
        try:
            reply = await service.client.post(url, body, headers, lease)
        except DeliveryFailed as failure:
            _log.info("a delivery of %s failed: %s", view.id, failure.reason)
            return self._failed(view, failure.timed_out)
        if not 200 <= reply.status < 300:
            _log.info("a delivery of %s was answered with %d", view.id, reply.status)
            return self._failed(view, timed_out=False)
        if _is_done(reply):
            return _acknowledge_all(view)
        return Delivered(view.grant, sent_at)

    def _document(self, view: View) -> dict[str, object]:
        service = self._service
        return {
            "subscription_id": view.id,
            **render.wake(view, service.relative),
            "callback_url": service.url_of(view.id, "callback"),
            "callback_token": service.token(view.grant),
        }

    def _failed(self, view: View, timed_out: bool) -> Undelivered:
        attempts = view.wake.attempts if view.wake is not None else 0
        delay = back_off(attempts, random.uniform(-RETRY_JITTER, RETRY_JITTER))
        at = self._service.clock() + round(delay * MICROSECONDS)
        return Undelivered(view.grant, at, timed_out)

    async def _keep(self, command: SubscriptionCommand) -> None:
        """Makes a result durable, as soon as the store has room for it."""
        while True:
            try:
                await self._service.execute(command)
                return
            except (Conflict, NotFound, Abandoned):
                return  # the wake is over, or the subscription is gone, or the store
            except StreamError as refusal:
                if refusal.status < 500:
                    _log.error("the result of a delivery was refused: %s", refusal.code)
                    return
            await asyncio.sleep(_AGAIN)


def back_off(attempts: int, jitter: float) -> float:
    """Returns the seconds until a delivery is tried again (PROTOCOL 7.1).

    Args:
        attempts: how many have failed before this one.
        jitter: from -0.2 to 0.2.
    """
    delay = min(MAX_RETRY_DELAY, _FIRST_DELAY * 2.0 ** min(attempts, 16))
    return delay * (1 + jitter)


def _is_done(reply: Reply) -> bool:
    try:
        return msgspec.json.decode(reply.body, type=_Answer).done
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # any other 2xx means: taken, and acknowledged by callback


def _acknowledge_all(view: View) -> Acknowledge:
    """Acknowledges the tails that were sent, and no more (PROTOCOL 7.1)."""
    assert view.wake is not None
    acks = tuple(
        (stream.path, parse(stream.tail)) for stream in view.streams if stream.acked != stream.tail
    )
    return Acknowledge(view.grant, view.generation, view.wake.wake_id, acks, done=True)
