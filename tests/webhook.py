"""A receiver of webhooks on threads of its own, for tests that start and kill the server as a process."""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: A status and a document; None leaves the request without an answer until the test is over.
Answer = tuple[int, dict[str, Any]] | None
DONE: Answer = (200, {"done": True})
TAKEN: Answer = (202, {})
BROKEN: Answer = (500, {})


@dataclass
class Delivery:
    """One request that came in.

    Attributes:
        path: of its URL.
        wake: its document.
        body: the exact bytes.
        signature: its `Webhook-Signature`.
        at: when it came, by the monotonic clock.
    """

    path: str
    wake: dict[str, Any]
    body: bytes
    signature: str
    at: float


class Hook:
    """A receiver that keeps what it gets and answers as the test says.

    Attributes:
        url: its address.
        answer: decides what a delivery is answered with.
        after: called on the same thread when a delivery has been answered.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://{server.server_address[0]!s}:{server.server_port}"
        self.answer: Callable[[Delivery], Answer] = lambda _: DONE
        self.after: Callable[[Delivery, Answer], None] = lambda *_: None
        self.over = threading.Event()
        self._got: queue.Queue[Delivery] = queue.Queue()

    def add(self, delivery: Delivery) -> None:
        """Takes one in."""
        self._got.put(delivery)

    def next(self, within: float = 5) -> Delivery:
        """Returns the next delivery that nobody has asked for yet."""
        try:
            return self._got.get(timeout=within)
        except queue.Empty:
            raise AssertionError(f"no delivery came within {within} s") from None

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing comes for a while."""
        with contextlib.suppress(queue.Empty):
            self._got.get(timeout=seconds)
            return False
        return True


@contextlib.contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Hook]:
    """Runs a receiver on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            signature = self.headers["Webhook-Signature"]
            delivery = Delivery(self.path, json.loads(body), body, signature, time.monotonic())
            answer = hook.answer(delivery)
            hook.add(delivery)
            if answer is None:
                hook.over.wait()
                self.close_connection = True
                return
            status, document = answer
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the server has been killed meanwhile
                self.wfile.write(text)
            hook.after(delivery, answer)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A connection of a server that was killed."""

    server = Quiet((host, 0), Handler)
    hook = Hook(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hook
    finally:
        hook.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
