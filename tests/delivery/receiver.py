"""The webhook receiver of a trial. It records each delivery, and handles the delivery in a way that is drawn from the seed."""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from durable_streams_server.webhooks import WebhookVerificationError, verify
from tests.delivery.behaviours import Choice, Exchange, answer_done
from tests.delivery.history import BadSignature, Delivered, Failure
from tests.delivery.requester import Requester, snapshot_of
from tests.delivery.wire import request

VERIFY_EVERY = 3  # one delivery in three is verified, because verifying is slow
TOLERANCE = 300.0  # seconds between the clock of the receiver and the timestamp of a signature


class Receiver:
    """Handles deliveries.

    Args:
        requester: sends callbacks, and holds the history.
        seed: determines how each delivery is handled.
    """

    def __init__(self, requester: Requester, seed: int) -> None:
        self._requester = requester
        self._seed = seed
        self._choices: dict[str, Choice] = {}
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {"keys": []}

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Records one delivery and answers it."""
        size = int(handler.headers["Content-Length"])
        body = handler.rfile.read(size)
        if len(body) < size:  # the server was killed while it was sending
            handler.close_connection = True
            return
        wake = json.loads(body)
        requester, sub = self._requester, str(wake["subscription_id"])
        grant = requester.add_grant(sub, "webhook", wake, wake["callback_token"])
        delivery = requester.history.add(
            Delivered,
            number=requester.history.next_number(),
            sub=sub,
            wake_id=wake["wake_id"],
            generation=wake["generation"],
            snapshot=snapshot_of(wake),
        )
        if delivery.number % VERIFY_EVERY == 0:
            self._verify(delivery.number, body, str(handler.headers["Webhook-Signature"]))
        with self._lock:
            way, chance = self._choices.setdefault(sub, Choice(f"{self._seed} {sub}")).next()
        known = requester.world.subs.get(sub)
        lease = known.lease if known is not None else 1.0
        exchange = Exchange(handler, delivery.number, grant, lease, requester, chance)
        (answer_done if requester.calm.is_set() else way)(exchange)

    def record_failure(self, what: str) -> None:
        """Records a failure that must not happen."""
        self._requester.history.add(Failure, what=what)

    def _verify(self, number: int, body: bytes, signature: str) -> None:
        """Verifies a signature with the keys that the server publishes. Skips the check if the server is down."""
        for keys in (self._keys, self._fetch_keys()):
            try:
                verify(body, signature, keys, now=self._requester.server.wall, tolerance=TOLERANCE)
                return
            except WebhookVerificationError as error:
                reason = error.reason
        if reason != "outside_tolerance" and self._keys["keys"]:
            self._requester.history.add(BadSignature, number=number, reason=reason)

    def _fetch_keys(self) -> dict[str, Any]:
        reply = request(self._requester.server.url, "GET", "__ds/jwks.json")
        self._keys = reply.document if reply.status == 200 else {"keys": []}
        return self._keys


@contextlib.contextmanager
def receiving(receiver: Receiver) -> Iterator[str]:
    """Runs a receiver on a free port, and yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            receiver.handle(self)

        def log_message(self, *_: Any) -> None:
            """Logs nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Records an error, unless it is a connection error, because the server may have been killed."""
            error = sys.exception()
            if not isinstance(error, OSError):
                receiver.record_failure(f"the receiver has failed: {error!r}")

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
