"""Delivers wakes to webhooks (PROTOCOL 7.1): sends each wake to its receiver, and makes the result durable.

`Deliveries` runs one task for each delivery and limits how many run at once. `_Attempt` is one exchange with a receiver.
"""

import asyncio
import random
from typing import Any, Final, Protocol
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
from ..streams.clock import StoreClock
from ..streams.turns import Turns
from . import keys
from .client import Reply, WebhookClient
from .counts import ACCEPTED, ACKNOWLEDGED, DeliveryCounts
from .credentials import Credentials
from .network import INVALID_ANSWER, REDIRECT, DeliveryFailed
from .slots import DeliverySlots
from .time_limit import TimeLimit

#: Maximum streams of a snapshot that is stored for a retry, because thousands of deliveries may wait for their retry at the same
#: time. A stored snapshot takes some 10 KiB. If a failed delivery listed more streams, the server begins another wake instead of a retry.
MAX_TOLD: Final = 64
#: Codes of failures in which the receiver did answer, so that its host does not count as silent.
_ANSWERED: Final = (REDIRECT, INVALID_ANSWER)
#: Seconds that the event loop needs to prepare and sign one delivery.
_PREPARATION_COST: Final = 0.0005
#: Seconds until a delivery retries a command after the store had no room for it.
_RETRY_SECONDS: Final = 1.0


class DeliveryContext(Protocol):
    """The interface through which deliveries use the rest of the server. `service.Service` implements it."""

    public_url: str | None
    clock: StoreClock
    turns: Turns
    credentials: Credentials
    counts: DeliveryCounts

    @property
    def client(self) -> WebhookClient:
        """The client that sends deliveries."""

    async def begin_delivery(self, grant: Grant) -> View | None:
        """Returns the subscription and the streams to list in a delivery, or None if the wake must not be delivered now."""

    async def run_and_wait(self, command: SubscriptionCommand) -> Any:
        """Executes a command in the store, and returns its outcome once it is durable."""

    def schedule_next_step(self, id_: str) -> None:
        """Schedules the next step of a subscription."""

    def relative(self, path: str) -> str:
        """Returns a stream path relative to the stream root."""

    def url_of(self, id_: str, action: str) -> str:
        """Returns the public URL of an action on a subscription."""


class _Answer(msgspec.Struct):
    done: bool = False


class Deliveries:
    """Runs deliveries as tasks, and queues deliveries that have no slot yet.

    A queued delivery is not a task. It takes one entry in a dict and one callback in a queue.
    """

    def __init__(self, context: DeliveryContext) -> None:
        self._context = context
        self._slots = DeliverySlots()
        #: Queued deliveries by subscription id and host name: the grant and the URL.
        self._waiting: dict[tuple[str, str], tuple[Grant, str]] = {}
        self._tasks: dict[Grant, asyncio.Task[None]] = {}
        self._time_limits: dict[
            str, TimeLimit
        ] = {}  # by wake id, while a receiver's answer is awaited

    def __len__(self) -> int:
        """Returns the number of deliveries that are running."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """The number of deliveries that wait for a slot."""
        return self._slots.waiting

    def begin(self, grant: Grant, url: str) -> None:
        """Delivers a wake to `url` as soon as a slot is free. Does nothing if a delivery of the same wake is running."""
        host = urlsplit(url).hostname or ""
        key = grant.id, host
        if grant in self._tasks:
            return
        is_queued = key in self._waiting
        self._waiting[key] = grant, url  # replaces an earlier wake, which must no longer be sent
        if not is_queued:
            self._slots.request(host, lambda: self._start(key))

    def extend(self, wake_id: str, seconds: float) -> None:
        """Extends the time for the answer to a delivery to `seconds` from now. Call it after a heartbeat of the receiver."""
        time_limit = self._time_limits.get(wake_id)
        if time_limit is not None:
            time_limit.extend(seconds)

    async def stop(self) -> None:
        """Cancels all deliveries and waits for their tasks. The next start delivers the wakes again."""
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
        """Removes a delivery that has ended, and schedules the next step of its subscription."""
        del self._tasks[grant]
        self._context.schedule_next_step(grant.id)

    async def _run(self, grant: Grant, url: str, host: str) -> None:
        """Delivers a wake, and makes the result durable."""
        context = self._context
        attempt = _Attempt(context, self._time_limits)
        try:
            view = await context.begin_delivery(grant)
            # One commit may begin hundreds of deliveries, so each waits for its turn.
            await context.turns.wait_turn(cost=_PREPARATION_COST)
            command = None if view is None else await attempt.run(view, url)
        except (NotFound, Abandoned):
            return  # the subscription was deleted, or the store has stopped
        except StreamError:  # the store cannot return the streams now
            await asyncio.sleep(_RETRY_SECONDS)
            return
        except Exception:
            _log.exception("a delivery of %s could not begin", grant.id)
            await asyncio.sleep(_RETRY_SECONDS)
            return
        finally:
            self._slots.release(host, attempt.was_answered)
        if command is not None:
            await self._store_result(command)

    async def _store_result(self, command: SubscriptionCommand) -> None:
        """Makes the result of a delivery durable. Retries while the store has no room for it."""
        while True:
            try:
                await self._context.run_and_wait(command)
                return
            except (Conflict, NotFound, Abandoned):
                return  # the wake is over, the subscription was deleted, or the store has stopped
            except StreamError as refusal:
                if refusal.status < 500:
                    assert isinstance(command, Acknowledge)
                    _log.error(
                        "the result of a delivery of %s was refused: %s",
                        command.grant.id,
                        refusal.code,
                    )
                    command = _failed(self._context, command.grant, 0, "result_refused", None)
                    continue
            await asyncio.sleep(_RETRY_SECONDS)


class _Attempt:
    """One exchange with a receiver.

    Attributes:
        was_answered: True if the receiver has answered, False if it has not, and None if nothing was sent to it.
    """

    def __init__(self, context: DeliveryContext, time_limits: dict[str, TimeLimit]) -> None:
        self._context = context
        self._time_limits = time_limits
        self.was_answered: bool | None = None

    async def run(self, view: View, url: str) -> SubscriptionCommand:
        """Sends a wake to its receiver, and returns the command that stores the result."""
        try:
            return await self._deliver(view, url)
        except Exception:
            _log.exception("a delivery of %s went wrong", view.id)
            self._context.counts.add("internal_error")
            return self._failed(view, "internal_error")

    async def _deliver(self, view: View, url: str) -> SubscriptionCommand:
        context, wake = self._context, view.wake
        assert wake is not None
        if context.public_url is None:  # the URL was known when the subscription was created
            _log.error("%s is not delivered: the server's public URL is not set", view.id)
            context.counts.add("no_public_url")
            return self._failed(view, "no_public_url")
        sent_at = context.clock()
        body, headers = self._request(view)
        time_limit = self._time_limits[wake.wake_id] = TimeLimit(view.config.lease_ttl / 1000)
        self.was_answered = False
        try:
            reply = await context.client.post(url, body, headers, time_limit)
        except DeliveryFailed as failure:
            self.was_answered = failure.code in _ANSWERED
            context.counts.add(failure.code)
            _log.info("a delivery of %s failed: %s", view.id, failure.reason)
            if failure.timed_out:
                # The receiver may still be working, so no other delivery begins until the lease ends.
                return Delivered(view.grant, sent_at, failure.code)
            return self._failed(view, failure.code)
        finally:
            del self._time_limits[wake.wake_id]
            context.counts.seconds.add((context.clock() - sent_at) / SECOND)
        self.was_answered = True
        if not 200 <= reply.status < 300:
            _log.info("a delivery of %s was answered with %d", view.id, reply.status)
            context.counts.add("refused")
            return self._failed(view, "refused")
        if _is_done(reply):
            context.counts.add(ACKNOWLEDGED)
            return _acknowledge_all(view)
        context.counts.add(ACCEPTED)
        return Delivered(view.grant, sent_at)

    def _request(self, view: View) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """Returns the body of a delivery, and its headers with the signature."""
        context = self._context
        timestamp = context.clock.wall() // SECOND  # the receiver compares it with its own clock
        body = msgspec.json.encode(
            {
                "subscription_id": view.id,
                **render.wake(view, context.relative),
                "callback_url": context.url_of(view.id, "callback"),
                "callback_token": context.credentials.issue_token(view.grant),
            }
        )
        signature = keys.sign(context.credentials.active_key, timestamp, body)
        return body, [
            (b"content-type", b"application/json"),
            (SIGNATURE_HEADER, signature.encode("ascii")),
        ]

    def _failed(self, view: View, problem: str) -> Undelivered:
        attempts = view.wake.attempts if view.wake is not None else 0
        told = view.streams if len(view.streams) <= MAX_TOLD and not view.truncated else None
        return _failed(self._context, view.grant, attempts, problem, told)


def _failed(
    context: DeliveryContext,
    grant: Grant,
    attempts: int,
    problem: str,
    told: Snapshot | None,
) -> Undelivered:
    """Returns the command that stores a failed delivery and the time of its retry, after exponential backoff with jitter."""
    delay = back_off(attempts, random.uniform(-RETRY_JITTER, RETRY_JITTER))
    return Undelivered(grant, context.clock() + round(delay * SECOND), problem, told)


def _is_done(reply: Reply) -> bool:
    """Returns whether the body of a successful reply is a JSON object with `"done": true`.

    After any other successful reply, the receiver acknowledges by callback.
    """
    try:
        return msgspec.json.decode(reply.body, type=_Answer).done
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _acknowledge_all(view: View) -> Acknowledge:
    """Returns the command that acknowledges the tails that were sent to the receiver, and no later offsets (PROTOCOL 7.1)."""
    assert view.wake is not None
    acks = tuple(
        (stream.path, parse(stream.tail)) for stream in view.streams if stream.acked != stream.tail
    )
    return Acknowledge(view.grant, view.generation, view.wake.wake_id, acks, done=True)
