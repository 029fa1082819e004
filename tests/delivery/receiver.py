"""The receiver of a trial's webhooks: notes each delivery, and treats it in a way that is drawn from the seed."""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from durable_streams_server.webhooks import WebhookVerificationError, verify
from tests.delivery.asking import Asker, told_of
from tests.delivery.behaviours import Choice, Talk, done
from tests.delivery.history import BadSignature, Delivered, Wrong
from tests.delivery.wire import request

SHARE = 3  # one delivery in so many is verified
TOLERANCE = 300.0


class Receiver:
    """Treats deliveries.

    Args:
        asker: sends callbacks.
        seed: what decides the ways.
    """

    def __init__(self, asker: Asker, seed: int) -> None:
        self._asker = asker
        self._seed = seed
        self._choices: dict[str, Choice] = {}
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {"keys": []}

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        """Takes one delivery in and answers it."""
        size = int(handler.headers["Content-Length"])
        body = handler.rfile.read(size)
        if len(body) < size:  # the server was killed while it sent
            handler.close_connection = True
            return
        wake = json.loads(body)
        asker, sub = self._asker, str(wake["subscription_id"])
        grant = asker.keep(sub, "webhook", wake, wake["callback_token"])
        noted = asker.history.add(
            Delivered,
            number=asker.history.number(),
            sub=sub,
            wake_id=wake["wake_id"],
            generation=wake["generation"],
            told=told_of(wake),
        )
        if noted.number % SHARE == 0:
            self._verify(noted.number, body, str(handler.headers["Webhook-Signature"]))
        with self._lock:
            way, chance = self._choices.setdefault(sub, Choice(f"{self._seed} {sub}")).next()
        known = asker.world.subs.get(sub)
        lease = known.lease if known is not None else 1.0
        talk = Talk(handler, noted.number, grant, lease, asker, chance)
        (done if asker.calm.is_set() else way)(talk)

    def note(self, what: str) -> None:
        """Notes something that must not be."""
        self._asker.history.add(Wrong, what=what)

    def _verify(self, number: int, body: bytes, signature: str) -> None:
        """Verifies a signature by the keys that the server publishes; the server may be down, and then nobody can."""
        for keys in (self._keys, self._fetch()):
            try:
                verify(body, signature, keys, now=self._asker.server.wall, tolerance=TOLERANCE)
                return
            except WebhookVerificationError as error:
                reason = error.reason
        if reason != "outside_tolerance" and self._keys["keys"]:
            self._asker.history.add(BadSignature, number=number, reason=reason)

    def _fetch(self) -> dict[str, Any]:
        reply = request(self._asker.server.url, "GET", "__ds/jwks.json")
        self._keys = reply.document if reply.status == 200 else {"keys": []}
        return self._keys


@contextlib.contextmanager
def receiving(receiver: Receiver) -> Iterator[str]:
    """Runs a receiver on a free port, and yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            receiver.take(self)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Notes an error, unless it is a connection that ended because the server was killed."""
            error = sys.exception()
            if not isinstance(error, OSError):
                receiver.note(f"the receiver has failed: {error!r}")

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
