"""A worker that receives webhooks and adds up the amounts in the streams below `orders/`.

    python examples/webhook_receiver.py http://127.0.0.1:4437/v1/stream 8000

The worker answers a webhook immediately and works in the background. When it has read the streams, it calls the server back with the offsets
that it has reached. With `--at-once` it works first and then answers `{"done": true}`. That is simpler, and right for work that takes less
time than the lease. In both cases the same values may come twice, after a crash between work and acknowledgement, but no value is lost.
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
    """Answers webhook requests."""

    streams: str  # URL of the stream root
    jwks: JwksClient
    at_once = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signature = ",".join(self.headers.get_all("Webhook-Signature", []))
        try:
            self.jwks.verify(body, signature)  # verify the body before any other use of it
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
    """Reads every stream that has new data, from its acknowledged offset. Returns the offsets reached."""
    acks = []
    for stream in wake["streams"]:
        offset = stream["acked_offset"]
        up_to_date = not stream["has_pending"]
        while not up_to_date:
            page = httpx.get(f"{streams}/{quote(stream['path'])}", params={"offset": offset})
            if page.status_code in (404, 410):
                break  # the stream was deleted meanwhile
            page.raise_for_status()
            print(stream["path"], sum(order["amount"] for order in page.json()), flush=True)
            offset = page.headers["Stream-Next-Offset"]
            up_to_date = "Stream-Up-To-Date" in page.headers
        acks.append({"stream": stream["path"], "offset": offset})
    return acks


def work_and_call_back(streams: str, wake: dict[str, Any]) -> None:
    """Does the work, and then calls the server back with the offsets and `done`. Long work should call back without `done` meanwhile."""
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
    """Creates the subscription and serves webhooks."""
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
