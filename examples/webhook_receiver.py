"""A worker that is woken by webhooks: it adds up what the streams below `orders/` say.

    python examples/webhook_receiver.py http://127.0.0.1:4437/v1/stream 8000

It takes a wake at once and works in the background: when it has read a stream, it acknowledges how far. With `--at-once` it works
first and answers `{"done": true}`, which is simpler, and right for work that takes less than the lease. Either way the same
values may come twice (after a crash between work and acknowledgement), never not at all.
"""

import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import httpx

from durable_streams_server.webhooks import JwksClient, WebhookVerificationError

ID = "totals"


class Receiver(BaseHTTPRequestHandler):
    """Answers webhooks."""

    streams: str  # the stream root's URL
    jwks: JwksClient
    at_once = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signature = ",".join(self.headers.get_all("Webhook-Signature", []))
        try:
            self.jwks.verify(body, signature)  # before anything else looks at the body
        except WebhookVerificationError as error:
            self.answer(503 if error.reason == "keys_unavailable" else 401, {})
            return
        wake = json.loads(body)
        if wake["subscription_id"] != ID:
            self.answer(404, {})
        elif self.at_once:
            work(self.streams, wake)
            self.answer(200, {"done": True})
        else:
            self.answer(202, {})
            threading.Thread(target=work_and_call_back, args=(self.streams, wake)).start()

    def answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def work(streams: str, wake: dict[str, Any]) -> list[dict[str, str]]:
    """Reads every stream with news from its acknowledged offset, and returns how far it came in each."""
    acks = []
    for stream in wake["streams"]:
        offset = stream["acked_offset"]
        up_to_date = not stream["has_pending"]
        while not up_to_date:
            page = httpx.get(f"{streams}/{quote(stream['path'])}", params={"offset": offset})
            if page.status_code in (404, 410):
                break  # the stream has been deleted meanwhile
            page.raise_for_status()
            print(stream["path"], sum(order["amount"] for order in page.json()), flush=True)
            offset = page.headers["Stream-Next-Offset"]
            up_to_date = "Stream-Up-To-Date" in page.headers
        acks.append({"stream": stream["path"], "offset": offset})
    return acks


def work_and_call_back(streams: str, wake: dict[str, Any]) -> None:
    """Works, and then says how far it came and that it is done. Long work calls back without `done` meanwhile."""
    answer = httpx.post(
        wake["callback_url"],
        headers={"Authorization": f"Bearer {wake['callback_token']}"},
        json={
            "wake_id": wake["wake_id"],
            "generation": wake["generation"],
            "acks": work(streams, wake),
            "done": True,
        },
    )
    if answer.status_code == 409:
        print("this took longer than the lease: a later wake has the same news", flush=True)


def main() -> None:
    """Subscribes, and waits for wakes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("streams", help="URL of the stream root")
    parser.add_argument("port", type=int)
    parser.add_argument("--at-once", action="store_true")
    given = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", given.port), Receiver)
    Receiver.streams, Receiver.at_once = given.streams, given.at_once
    Receiver.jwks = JwksClient(f"{given.streams}/__ds/jwks.json")
    url = f"http://127.0.0.1:{server.server_port}/"
    wanted = {"type": "webhook", "pattern": "orders/*", "webhook": {"url": url}}
    httpx.put(f"{given.streams}/__ds/subscriptions/{ID}", json=wanted).raise_for_status()
    print(f"waiting for wakes at {url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
