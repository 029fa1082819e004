"""Answers the control routes of workers: claim, callback, ack and release (PROTOCOL 7).

Workers send the token of their claim or delivery with each callback, ack and release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import Unauthorized
from ...protocol.offsets import Offset
from ...protocol.subscriptions import commands, render
from ...protocol.subscriptions.outcomes import AckOutcome
from ...protocol.subscriptions.views import View
from ...storage.ticket import Ticket
from ...subscriptions.credentials import Held
from ...subscriptions.loading import in_slices
from ...subscriptions.service import Service
from ..gate.permit import Permit
from ..request import Request
from .requests import Actions, Answer, bearer_token, document, json_body, no_content
from .rights import SubscriptionRights
from .routes import ACK, CALLBACK, CLAIM, RELEASE


class WorkerRoutes:
    """Answers the requests of workers.

    Args:
        service: Runs the subscriptions.
        root: The stream root.
        is_static: Returns whether a subject is that of a static token, which exists until it is revoked.

    Attributes:
        actions: The function for each route and method.
    """

    def __init__(self, service: Service, root: str, is_static: Callable[[str], bool]) -> None:
        self._service = service
        self._is_static = is_static
        self._root = root
        self._rights = SubscriptionRights(service, root)
        self.actions: Actions = {
            (CLAIM, "POST"): self._claim,
            (CALLBACK, "POST"): self._acknowledge,
            (ACK, "POST"): self._acknowledge,
            (RELEASE, "POST"): self._release,
        }

    def _claim(self, request: Request, permit: Permit, id_: str) -> Answer:
        command = commands.parse_claim(id_, json_body(request))
        credentials = self._service.credentials
        subject = permit.client or ""
        client = subject if self._is_static(subject) else ""

        def claimed(view: View) -> Answer:
            holder = credentials.holder(client, permit.until)
            return document(
                200,
                {
                    **render.wake(view, self._service.relative),
                    "token": credentials.issue_token(view.grant, holder),
                    "lease_ttl_ms": view.config.lease_ttl,
                },
            )

        return (
            self._rights.check_existing(permit, id_)
            .then(lambda _: self._service.claim(command))
            .then(claimed)
        )

    def _acknowledge(self, request: Request, id_: str) -> Answer:
        grant, renew, holder = self._read_token(request, id_)
        asked = commands.parse_acknowledge(json_body(request))
        acks: list[tuple[str, Offset]] = []

        def parse(ack: commands.AckText) -> Ticket[None]:
            acks.append(commands.parse_ack(ack, self._root))
            return Ticket.of(None)

        def acknowledge(_: None) -> Ticket[AckOutcome]:
            generation, wake_id = asked.generation, asked.wake_id
            return self._service.acknowledge(
                commands.Acknowledge(grant, generation, wake_id, tuple(acks), asked.done)
            )

        def acknowledged(outcome: AckOutcome) -> Answer:
            content: dict[str, Any] = {"ok": True, "next_wake": outcome.next_wake}
            if renew and not asked.done:
                content["token"] = self._service.credentials.issue_token(grant, holder)
            return document(200, content)

        parsed: Ticket[None] = in_slices(self._service.turns, asked.acks, parse)
        return parsed.then(acknowledge).then(acknowledged)

    def _release(self, request: Request, id_: str) -> Answer:
        grant = self._read_token(request, id_).grant
        return self._service.run(commands.parse_release(grant, json_body(request))).then(no_content)

    def _read_token(self, request: Request, id_: str) -> Held:
        """Returns what the token of a worker carries.

        Raises:
            Unauthorized: The token is not valid, or the static token with which the client claimed the wake has been revoked.
        """
        held = self._service.credentials.read_token(id_, bearer_token(request))
        client = held.holder.client
        if client and not self._is_static(client):
            raise Unauthorized("the token with which the wake was claimed has been revoked")
        return held
