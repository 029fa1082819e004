"""Answers the control routes below `__ds`: subscriptions, their workers, and the public keys (PROTOCOL 6, 7).

    GET                  jwks.json
    PUT, GET, DELETE     subscriptions/<id>
    POST                 subscriptions/<id>/streams
    DELETE               subscriptions/<id>/streams/<path>
    POST                 subscriptions/<id>/callback, ack, claim, release

Routes match the decoded path, and each request becomes a command of `protocol/subscriptions/`. Workers send the token of their claim or
delivery with each callback, ack and release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ..errors import BadRequest, MethodNotAllowed, NotFound, TooLarge, Unauthorized
from ..protocol.codings import refuse_coded
from ..protocol.media import Kind, parse_media_type
from ..protocol.names import CONTENT_TYPE
from ..protocol.offsets import Offset
from ..protocol.render import Response
from ..protocol.subscriptions import commands, render
from ..protocol.subscriptions.changes import LinkedStream
from ..protocol.subscriptions.outcomes import AckOutcome
from ..protocol.subscriptions.views import View
from ..protocol.units import MIB
from ..storage.ticket import Ticket
from ..subscriptions.loading import in_slices
from ..subscriptions.service import Service
from .request import Request

#: Maximum bytes of a control request's body: enough for ten thousand paths of average length, or as many acks.
MAX_CONTROL_BODY: Final = 4 * MIB
_NO_STORE: Final = (b"cache-control", b"no-store")
_JSON: Final = (CONTENT_TYPE, b"application/json")
_JWKS: Final = (
    (CONTENT_TYPE, b"application/jwk-set+json"),
    (b"cache-control", b"public, max-age=300"),  # PROTOCOL 6.5
)

Answer = Ticket[Response]
Action = Callable[[Request, str], Answer]


class Control:
    """Answers control requests.

    Args:
        service: Runs the subscriptions.
        root: The stream root.
        reserved: The path below which the routes are.
    """

    def __init__(self, service: Service, root: str, reserved: str) -> None:
        self._service = service
        self._root = root
        self._prefix = reserved + "/"
        self._subscription: dict[str, Action] = {
            "PUT": self._subscribe,
            "GET": self._view,
            "DELETE": self._unsubscribe,
        }
        self._worker: dict[str, Action] = {
            "streams": self._link,
            "callback": self._acknowledge,
            "ack": self._acknowledge,
            "claim": self._claim,
            "release": self._release,
        }

    def handle(self, request: Request, path: str) -> Answer:
        """Returns a ticket for the response to a request.

        Raises:
            NotFound: RESERVED_PATH, because no route has this path.
            MethodNotAllowed: The route does not have this method.
            StreamError: The body or the token is refused.
        """
        if len(request.body) > MAX_CONTROL_BODY:
            raise _too_large()
        match path.removeprefix(self._prefix).split("/", 3):
            case ["jwks.json"]:
                return _by_method(request, {"GET": self._jwks}, "")
            case ["subscriptions", id_] if id_:
                return _by_method(request, self._subscription, id_)
            case ["subscriptions", id_, action] if action in self._worker:
                return _by_method(request, {"POST": self._worker[action]}, id_)
            case ["subscriptions", id_, "streams", relative] if relative:
                unlink = self._unlink(relative)
                return _by_method(request, {"DELETE": unlink}, id_)
        raise NotFound("this path is reserved for the server itself", "RESERVED_PATH")

    def check_head(self, request: Request) -> None:
        """Refuses a request by its head, before its body is received.

        Raises:
            TooLarge: The declared size of the body is above `MAX_CONTROL_BODY`.
            UnsupportedMedia: The body has a content coding.
        """
        if request.declared is not None and request.declared > MAX_CONTROL_BODY:
            raise _too_large()
        refuse_coded(request.headers)

    # -- subscriptions ------------------------------------------------------

    def _subscribe(self, request: Request, id_: str) -> Answer:
        command = commands.parse_subscribe(id_, _json(request), self._root)
        return self._service.subscribe(command).then(
            lambda outcome: self._show_subscription(id_, 201 if outcome.created else 200)
        )

    def _view(self, _: Request, id_: str) -> Answer:
        return self._show_subscription(id_, 200)

    def _show_subscription(self, id_: str, status: int) -> Answer:
        """Returns a ticket for a response that shows a subscription and its streams."""

        def show(found: tuple[View, list[LinkedStream], bool]) -> Answer:
            view, streams, truncated = found
            signing = None
            if view.config.webhook_url is not None:
                signing = self._service.signing()
            relative = self._service.relative
            return _document(
                status, render.subscription(view, streams, relative, signing, truncated)
            )

        return self._service.view(id_).then(show)

    def _unsubscribe(self, _: Request, id_: str) -> Answer:
        return self._service.run(commands.Unsubscribe(id_)).then(_no_content)

    def _link(self, request: Request, id_: str) -> Answer:
        command = commands.parse_link(id_, _json(request), self._root)
        return self._service.run(command).then(_no_content)

    def _unlink(self, relative: str) -> Action:
        """Returns the action that unlinks the stream at a path below the stream root."""

        def unlink(_: Request, id_: str) -> Answer:
            path = commands.stream_path(relative, self._root)
            return self._service.run(commands.Unlink(id_, path)).then(_no_content)

        return unlink

    def _jwks(self, _: Request, __: str) -> Answer:
        return self._service.jwks().then(
            lambda document: Ticket.of(Response(200, [*_JWKS], msgspec.json.encode(document)))
        )

    # -- workers ------------------------------------------------------------

    def _claim(self, request: Request, id_: str) -> Answer:
        command = commands.parse_claim(id_, _json(request))

        def claimed(view: View) -> Answer:
            return _document(
                200,
                {
                    **render.wake(view, self._service.relative),
                    "token": self._service.credentials.issue_token(view.grant),
                    "lease_ttl_ms": view.config.lease_ttl,
                },
            )

        return self._service.claim(command).then(claimed)

    def _acknowledge(self, request: Request, id_: str) -> Answer:
        grant, renew = self._service.credentials.read_token(id_, _token(request))
        asked = commands.parse_acknowledge(_json(request))
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
            document: dict[str, Any] = {"ok": True, "next_wake": outcome.next_wake}
            if renew and not asked.done:
                document["token"] = self._service.credentials.issue_token(grant)
            return _document(200, document)

        parsed: Ticket[None] = in_slices(self._service.turns, asked.acks, parse)
        return parsed.then(acknowledge).then(acknowledged)

    def _release(self, request: Request, id_: str) -> Answer:
        grant, _ = self._service.credentials.read_token(id_, _token(request))
        return self._service.run(commands.parse_release(grant, _json(request))).then(_no_content)


def _too_large() -> TooLarge:
    """Returns the refusal of a body that is too large."""
    return TooLarge(f"the body is larger than {MAX_CONTROL_BODY} bytes")


def _by_method(request: Request, actions: dict[str, Action], id_: str) -> Answer:
    """Runs the action for a request's method.

    Raises:
        MethodNotAllowed: None of the actions has this method. The error lists the allowed methods.
    """
    method = "GET" if request.method == "HEAD" else request.method
    if method not in actions:
        allowed = [*actions, *(["HEAD"] if "GET" in actions else []), "OPTIONS"]
        raise MethodNotAllowed(
            "the method is not known here", headers=[(b"allow", ", ".join(allowed).encode())]
        )
    return actions[method](request, id_)


def _json(request: Request) -> bytes:
    """Returns the body of a request if its Content-Type is JSON. HTML forms on other sites cannot send such requests.

    Raises:
        BadRequest: MISSING_CONTENT_TYPE or INVALID_CONTENT_TYPE.
        UnsupportedMedia: The body has a content coding.
    """
    refuse_coded(request.headers)
    declared = request.headers.get(CONTENT_TYPE)
    if declared is None:
        raise BadRequest("the body needs a Content-Type", "MISSING_CONTENT_TYPE")
    if parse_media_type(declared.decode("latin-1")).kind is not Kind.JSON:
        raise BadRequest("the body must be application/json", "INVALID_CONTENT_TYPE")
    return request.body


def _token(request: Request) -> str:
    """Returns the bearer token of a request.

    Raises:
        Unauthorized: The request has none.
    """
    scheme, _, token = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("a bearer token is needed here")
    return token.strip()


def _document(status: int, document: dict[str, Any]) -> Answer:
    """Returns a done ticket for a response with a JSON document."""
    return Ticket.of(Response(status, [_JSON, _NO_STORE], msgspec.json.encode(document)))


def _no_content(_: object) -> Answer:
    """Returns a done ticket for a 204 response."""
    return Ticket.of(Response(204, [_NO_STORE]))
