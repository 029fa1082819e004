"""One delivery of a wake to a webhook, from what is durable to what its answer means (PROTOCOL 7.1)."""

import asyncio
import random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from ..errors import Conflict, NotFound, StreamError
from ..log import log as _log
from ..protocol.limits import RETRY_JITTER
from ..protocol.offsets import parse
from ..protocol.signing import SIGNATURE_HEADER
from ..protocol.subscriptions import render
from ..protocol.subscriptions.changes import Snapshot
from ..protocol.subscriptions.commands import (
    Acknowledge,
    Delivered,
    Grant,
    SubscriptionCommand,
    Undelivered,
)
from ..protocol.subscriptions.steps import back_off
from ..protocol.subscriptions.views import View
from ..protocol.units import SECOND
from ..storage.ticket import Abandoned
from . import keys
from .client import Reply
from .network import INVALID_ANSWER, REDIRECT, DeliveryFailed
from .patience import Patience
from .slots import DeliverySlots

if TYPE_CHECKING:
    from .service import Service

#: Streams of a snapshot that is kept to be told again after a failure. The retry of a larger one is another wake, so what waits
#: to be delivered again stays small: some 10 KiB each.
MAX_TOLD: Final = 64
_ANSWERED: Final = (REDIRECT, INVALID_ANSWER)  # failures that are answers all the same
_PREPARED_IN: Final = (
    0.0005  # seconds of the loop until a delivery is written, looked at and signed
)
_AGAIN: Final = 1.0  # seconds until a store that had no room is asked again


class _Answer(msgspec.Struct):
    done: bool = False


class Deliveries:
    """The deliveries that are under way, and those that wait for a place. One that waits is a grant and an entry in a queue."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._slots = DeliverySlots()
        self._waiting: dict[tuple[str, str], tuple[Grant, str]] = {}  # by subscription and host
        self._tasks: dict[Grant, asyncio.Task[None]] = {}
        self._patience: dict[str, Patience] = {}  # by wake id, while an answer is awaited

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, grant: Grant, url: str) -> None:
        """Has a wake delivered as soon as there is a place, unless that is under way: when it ends, the subscription is looked at
        again."""
        host = urlsplit(url).hostname or ""
        key = grant.id, host
        if grant in self._tasks:
            return
        stands_in_line = key in self._waiting
        self._waiting[key] = grant, url  # of an earlier wake there is nothing left to deliver
        if not stands_in_line:
            self._slots.ask(host, lambda: self._start(key))

    def extend(self, wake_id: str, seconds: float) -> None:
        """Gives the receiver of a wake more time for its answer, after a heartbeat."""
        patience = self._patience.get(wake_id)
        if patience is not None:
            patience.extend(seconds)

    async def stop(self) -> None:
        """Breaks off what is under way; it is delivered again after the next start."""
        self._slots.clear()
        self._waiting.clear()
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: tuple[str, str]) -> None:
        (grant, url), (_, host) = self._waiting.pop(key), key
        task = asyncio.get_running_loop().create_task(self._run(grant, url, host))
        self._tasks[grant] = task
        task.add_done_callback(lambda _: self._end(grant))

    def _end(self, grant: Grant) -> None:
        """Every delivery ends with a look at what comes next."""
        del self._tasks[grant]
        self._service.plan(grant.id)

    async def _run(self, grant: Grant, url: str, host: str) -> None:
        """Looks at the wake, delivers it, and makes the result durable."""
        attempt = _Attempt(self._service, self._patience)
        try:
            view = await self._service.begin_delivery(grant)
            await self._service.turns.wait_turn(cost=_PREPARED_IN)  # one commit may bring hundreds
            command = None if view is None else await attempt.run(view, url)
        except (NotFound, Abandoned):
            return  # the subscription is gone, or the store
        except StreamError:  # the store cannot say now what to deliver
            await asyncio.sleep(_AGAIN)
            return
        except Exception:
            _log.exception("a delivery of %s could not begin", grant.id)
            await asyncio.sleep(_AGAIN)
            return
        finally:
            self._slots.give_back(host, attempt.was_answered)
        if command is not None:
            await self._keep(command)

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
                    assert isinstance(command, Acknowledge)
                    _log.error(
                        "the result of a delivery of %s was refused: %s",
                        command.grant.id,
                        refusal.code,
                    )
                    command = _failed(self._service, command.grant, 0, "result_refused", None)
                    continue
            await asyncio.sleep(_AGAIN)


class _Attempt:
    """One exchange with a receiver.

    Attributes:
        was_answered: whether the receiver has answered; None while it has not been asked.
    """

    def __init__(self, service: "Service", patience: dict[str, Patience]) -> None:
        self._service = service
        self._patience = patience
        self.was_answered: bool | None = None

    async def run(self, view: View, url: str) -> SubscriptionCommand:
        """Delivers a wake, and returns what came of it."""
        try:
            return await self._deliver(view, url)
        except Exception:
            _log.exception("a delivery of %s went wrong", view.id)
            return self._failed(view, "internal_error")

    async def _deliver(self, view: View, url: str) -> SubscriptionCommand:
        service, wake = self._service, view.wake
        assert wake is not None
        if service.public_url is None:  # it was known when the subscription was made
            _log.error("%s is not delivered: the server's public URL is not set", view.id)
            return self._failed(view, "no_public_url")
        sent_at = service.clock()
        timestamp = service.clock.wall() // SECOND  # the receiver's clock judges it
        body = msgspec.json.encode(self._document(view))
        signature = keys.sign(service.active_key, timestamp, body)
        headers = [
            (b"content-type", b"application/json"),
            (SIGNATURE_HEADER, signature.encode("ascii")),
        ]
        patience = self._patience[wake.wake_id] = Patience(view.config.lease_ttl / 1000)
        self.was_answered = False
        try:
            reply = await service.client.post(url, body, headers, patience)
        except DeliveryFailed as failure:
            self.was_answered = failure.code in _ANSWERED
            _log.info("a delivery of %s failed: %s", view.id, failure.reason)
            if (
                failure.timed_out
            ):  # the receiver may be at work: nobody else is until the lease ends
                return Delivered(view.grant, sent_at, failure.code)
            return self._failed(view, failure.code)
        finally:
            del self._patience[wake.wake_id]
        self.was_answered = True
        if not 200 <= reply.status < 300:
            _log.info("a delivery of %s was answered with %d", view.id, reply.status)
            return self._failed(view, "refused")
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

    def _failed(self, view: View, problem: str) -> Undelivered:
        attempts = view.wake.attempts if view.wake is not None else 0
        told = view.streams if len(view.streams) <= MAX_TOLD and not view.truncated else None
        return _failed(self._service, view.grant, attempts, problem, told)


def _failed(
    service: "Service",
    grant: Grant,
    attempts: int,
    problem: str,
    told: Snapshot | None,
) -> Undelivered:
    delay = back_off(attempts, random.uniform(-RETRY_JITTER, RETRY_JITTER))
    return Undelivered(grant, service.clock() + round(delay * SECOND), problem, told)


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
