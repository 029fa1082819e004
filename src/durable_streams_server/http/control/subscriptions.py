"""Answers the control routes of subscriptions, and the route of the public keys (PROTOCOL 6).

Each request becomes a command of `protocol/subscriptions/`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ...protocol.names import CONTENT_TYPE
from ...protocol.render import Response
from ...protocol.subscriptions import commands, render
from ...protocol.subscriptions.changes import LinkedStream
from ...protocol.subscriptions.views import View
from ...storage.ticket import Ticket
from ...subscriptions.service import Service
from ..gate.permit import Permit
from ..request import Request
from .requests import Actions, Answer, document, json_body, no_content
from .rights import SubscriptionRights
from .routes import JWKS, LINK, LINKS, SUBSCRIPTION

_JWKS: Final = (
    (CONTENT_TYPE, b"application/jwk-set+json"),
    (b"cache-control", b"public, max-age=300"),  # PROTOCOL 6.5
)


class SubscriptionRoutes:
    """Answers requests that create, show, change and delete subscriptions.

    Args:
        service: Runs the subscriptions.
        root: The stream root.
        max_per_token: The maximum number of subscriptions that a token has created, unless the token has a limit of its own.

    Attributes:
        actions: The function for each route and method.
    """

    def __init__(self, service: Service, root: str, max_per_token: int) -> None:
        self._service = service
        self._root = root
        self._max_per_token = max_per_token
        self._rights = SubscriptionRights(service, root)
        self.actions: Actions = {
            (SUBSCRIPTION, "PUT"): self._subscribe,
            (SUBSCRIPTION, "GET"): self._view,
            (SUBSCRIPTION, "DELETE"): self._unsubscribe,
            (LINKS, "POST"): self._link,
            (LINK, "DELETE"): self._unlink,
            (JWKS, "GET"): self._jwks,
        }

    def _subscribe(self, request: Request, permit: Permit, id_: str) -> Answer:
        own = permit.limits.subscriptions
        limit = self._max_per_token if own is None else own
        command = commands.parse_subscribe(
            id_, json_body(request), self._root, permit.client, limit
        )
        return (
            self._rights.check_config(permit, command.config)
            .then(lambda _: self._service.subscribe(command))
            .then(
                lambda outcome: self._show_subscription(
                    permit, id_, 201 if outcome.created else 200
                )
            )
        )

    def _view(self, _: Request, permit: Permit, id_: str) -> Answer:
        return self._show_subscription(permit, id_, 200)

    def _show_subscription(self, permit: Permit, id_: str, status: int) -> Answer:
        """Returns a ticket for a response that shows a subscription and its streams, if the client may use it."""

        def show(found: tuple[View, list[LinkedStream], bool]) -> Answer:
            view, streams, truncated = found
            signing = None
            if view.config.webhook_url is not None:
                signing = self._service.signing()
            relative = self._service.relative
            return document(
                status, render.subscription(view, streams, relative, signing, truncated)
            )

        return (
            self._rights.check_existing(permit, id_)
            .then(lambda _: self._service.view(id_))
            .then(show)
        )

    def _unsubscribe(self, _: Request, permit: Permit, id_: str) -> Answer:
        return self._run(permit, commands.Unsubscribe(id_))

    def _link(self, request: Request, permit: Permit, id_: str) -> Answer:
        command = commands.parse_link(id_, json_body(request), self._root)
        return self._rights.check_streams(permit, command.paths).then(
            lambda _: self._run(permit, command)
        )

    def _unlink(self, _: Request, permit: Permit, id_: str, relative: str) -> Answer:
        return self._run(permit, commands.Unlink(id_, commands.stream_path(relative, self._root)))

    def _run(
        self, permit: Permit, command: commands.Unsubscribe | commands.Link | commands.Unlink
    ) -> Answer:
        """Executes a command on a subscription, if the client may use it. The response has no content."""
        return (
            self._rights.check_existing(permit, command.id)
            .then(lambda _: self._service.run(command))
            .then(no_content)
        )

    def _jwks(self, _: Request) -> Answer:
        return self._service.jwks().then(
            lambda keys: Ticket.of(
                Response(200, [*_JWKS], msgspec.json.encode(keys), is_public=True)
            )
        )
