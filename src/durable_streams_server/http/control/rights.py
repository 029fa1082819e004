"""Checks what a client's token allows on the streams of a subscription, which are known only once the body is parsed.

Whoever may `subscribe` to all streams of a subscription may show, change, delete and claim it. To create it or to link a stream, the client
must also be allowed to `read` these streams, because wakes tell of their tails, and to `append` to the wake stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ...errors import Forbidden
from ...protocol.permissions import Verb
from ...protocol.subscriptions.changes import Config
from ...protocol.subscriptions.commands import stream_path
from ...protocol.subscriptions.context import no_subscription
from ...storage.ticket import Ticket
from ...subscriptions.loading import in_slices
from ...subscriptions.service import Service
from ..gate.permit import Permit, not_allowed

_TO_CREATE: Final[tuple[Verb, ...]] = ("subscribe", "read")


class SubscriptionRights:
    """Checks permits against subscriptions.

    Args:
        service: Runs the subscriptions.
        root: The stream root.
    """

    def __init__(self, service: Service, root: str) -> None:
        self._service = service
        self._root = root

    def check_config(self, permit: Permit, config: Config) -> Ticket[None]:
        """Returns a ticket that fails if the client may not create a subscription with a configuration, or confirm that it exists.

        Raises:
            Forbidden: FORBIDDEN, for the streams of the pattern or the wake stream.
        """
        wake_stream = config.wake_stream
        if wake_stream is not None and not permit.may(
            "append", stream_path(wake_stream, self._root)
        ):
            raise not_allowed()
        if config.pattern is not None:
            for verb in _TO_CREATE:
                if not permit.may_all(verb, f"{self._root}/{config.pattern}"):
                    raise not_allowed()
        return self.check_streams(
            permit, (stream_path(path, self._root) for path in config.streams)
        )

    def check_streams(self, permit: Permit, paths: Iterable[str]) -> Ticket[None]:
        """Returns a ticket that fails with Forbidden if the client may not link one of the streams."""
        return self._check(permit, _TO_CREATE, paths)

    def check_existing(self, permit: Permit, id_: str) -> Ticket[None]:
        """Returns a ticket that fails if the client may not use a subscription.

        The client gets the same error as for a subscription that does not exist, so that it learns nothing about the subscriptions of others.

        Raises:
            NotFound: SUBSCRIPTION_NOT_FOUND. The ticket fails with it likewise.
        """
        subscription = self._service.find(id_)
        if permit.claims is None or subscription is None:
            return Ticket.of(None)  # the command itself refuses an unknown id
        pattern = subscription.config.pattern
        if pattern is not None and not permit.may_all("subscribe", f"{self._root}/{pattern}"):
            raise no_subscription()
        checked: Ticket[None] = Ticket()

        def hide(done: Ticket[None]) -> None:
            try:
                checked.resolve(done.result())
            except Exception as error:
                checked.fail(no_subscription() if isinstance(error, Forbidden) else error)

        found = self._check(permit, ("subscribe",), tuple(subscription.streams))
        found.add_callback(hide)
        return checked

    def _check(self, permit: Permit, verbs: tuple[Verb, ...], paths: Iterable[str]) -> Ticket[None]:
        """Returns a ticket that fails with Forbidden unless the client may use each verb on each path."""
        if permit.claims is None:
            return Ticket.of(None)

        def check(path: str) -> Ticket[None]:
            if all(permit.may(verb, path) for verb in verbs):
                return Ticket.of(None)
            return Ticket.failed(not_allowed())

        return in_slices(self._service.turns, paths, check)
