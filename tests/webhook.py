"""A receiver of webhooks that runs in threads, for tests that start and kill the server as a process."""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: The status and the JSON document of a response. None leaves the request without a response until the end of the test.
Answer = tuple[int, dict[str, Any]] | None
DONE: Answer = (200, {"done": True})
TAKEN: Answer = (202, {})
BROKEN: Answer = (500, {})


@dataclass
class Delivery:
    """A webhook request that the receiver has received.

    Attributes:
        path: the path of the URL.
        wake: the decoded body.
        body: the exact bytes of the body.
        signature: the value of `Webhook-Signature`.
        at: time of arrival in seconds of the monotonic clock.
    """

    path: str
    wake: dict[str, Any]
    body: bytes
    signature: str
    at: float


class Hook:
    """A receiver that queues its deliveries for the test.

    Attributes:
        url: the URL of the receiver.
        answer: returns the response to a delivery.
        after: called in the same thread after a delivery has been answered.
        over: an event that is set at the end of the test.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://{server.server_address[0]!s}:{server.server_port}"
        self.answer: Callable[[Delivery], Answer] = lambda _: DONE
        self.after: Callable[[Delivery, Answer], None] = lambda *_: None
        self.over = threading.Event()
        self._got: queue.Queue[Delivery] = queue.Queue()

    def add(self, delivery: Delivery) -> None:
        """Queues a delivery."""
        self._got.put(delivery)

    def next(self, within: float = 5) -> Delivery:
        """Removes the next delivery from the queue and returns it. Waits for it, at most `within` seconds."""
        try:
            return self._got.get(timeout=within)
        except queue.Empty:
            raise AssertionError(f"no delivery came within {within} s") from None

    def is_quiet(self, seconds: float) -> bool:
        """Waits for `seconds`, and returns whether no delivery arrives. The wait is necessary because the server is another process."""
        with contextlib.suppress(queue.Empty):
            self._got.get(timeout=seconds)
            return False
        return True


@contextlib.contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Hook]:
    """Runs a receiver on a free port until the end of the block."""

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
            with contextlib.suppress(OSError):  # the server may have been killed meanwhile
                self.wfile.write(text)
            hook.after(delivery, answer)

        def log_message(self, *_: Any) -> None:
            """Logs nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Ignores errors of connections, because tests kill the server."""

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
