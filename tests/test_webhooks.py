"""Receivers accept a webhook only if the server has signed exactly these bytes, and recently."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from durable_streams_server import webhooks
from durable_streams_server.subscriptions.keys import generate, jwks, rotate, sign
from durable_streams_server.webhooks import JwksClient, WebhookVerificationError, verify

NOW = 1_778_324_210
KEY = generate(NOW)
KEYS = jwks([KEY], NOW)
BODY = b'{"subscription_id":"sub-1","generation":7}'
HEADER = sign(KEY, NOW, BODY)


def refusal(
    body: bytes = BODY, header: str = HEADER, keys: Any = KEYS, now: float = NOW, **more: Any
) -> str:
    """Verifies a webhook that must be refused, and returns the reason."""
    with pytest.raises(WebhookVerificationError) as caught:
        verify(body, header, keys, now=now, **more)
    assert str(caught.value)
    return caught.value.reason


def test_webhook_signed_by_server_is_accepted() -> None:
    verify(BODY, HEADER, KEYS, now=NOW)
    verify(b"", sign(KEY, NOW, b""), KEYS, now=NOW)


def test_verify_uses_system_clock_by_default() -> None:
    with pytest.raises(WebhookVerificationError) as caught:
        verify(BODY, HEADER, KEYS)
    assert caught.value.reason == "outside_tolerance"


def test_bit_flipped_anywhere_in_header_is_refused() -> None:
    data = HEADER.encode()
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            refusal(header=changed.decode("latin-1"))
            refusal(header=changed.decode("latin-1"), tolerance=float("inf"))


def test_bit_flipped_anywhere_in_body_is_refused() -> None:
    for place in range(len(BODY)):
        for bit in range(8):
            changed = bytearray(BODY)
            changed[place] ^= 1 << bit
            assert refusal(bytes(changed)) == "bad_signature"


@pytest.mark.parametrize(
    "body", [b"", BODY + b"\n", b" " + BODY, BODY[:-1], json.dumps(json.loads(BODY)).encode()]
)
def test_body_with_same_json_value_but_other_bytes_is_refused(body: bytes) -> None:
    assert refusal(body) == "bad_signature"


@pytest.mark.parametrize("off", [-300, 300, -0.5, 299.9])
def test_signature_within_5_minutes_of_now_is_accepted(off: float) -> None:
    verify(BODY, HEADER, KEYS, now=NOW + off)


@pytest.mark.parametrize("off", [-300.1, 300.1, -1e9, 1e9, float("nan"), float("inf")])
def test_signature_more_than_5_minutes_from_now_is_refused(off: float) -> None:
    assert refusal(now=NOW + off) == "outside_tolerance"


def test_tolerance_argument_replaces_5_minutes() -> None:
    verify(BODY, HEADER, KEYS, now=NOW + 10, tolerance=10)
    assert refusal(now=NOW + 11, tolerance=10) == "outside_tolerance"
    assert refusal(tolerance=float("nan")) == "outside_tolerance"


@pytest.mark.parametrize(
    "header", ["", "t=1", HEADER + "," + HEADER, HEADER + ",t=1", HEADER + "\r\n", "\x00", "é"]
)
def test_malformed_header_is_refused(header: str) -> None:
    assert refusal(header=header) == "malformed_header"


def test_verify_chooses_key_by_its_id() -> None:
    keys = rotate([KEY], NOW)
    verify(BODY, HEADER, jwks(keys, NOW), now=NOW)
    verify(BODY, sign(keys[0], NOW, BODY), jwks(keys, NOW), now=NOW)
    assert refusal(keys=jwks(keys[:1], NOW)) == "unknown_key"


def test_other_key_with_same_id_is_refused() -> None:
    other = jwks([generate(NOW)], NOW)["keys"][0] | {"kid": KEY.kid}
    assert refusal(keys={"keys": [other]}) == "bad_signature"
    assert refusal(keys={"keys": [other, *KEYS["keys"]]}) == "unknown_key"


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"keys": None},
        {"keys": {}},
        {"keys": "x"},
        {"keys": [None, 7, "x", []]},
        *(
            {"keys": [KEYS["keys"][0] | change]}
            for change in (
                {"kid": None},
                {"kty": "EC"},
                {"crv": "X25519"},
                {"x": None},
                {"x": ""},
                {"x": "AAAA"},
                {"x": 7},
                {"x": KEYS["keys"][0]["x"] + "="},
                {"x": "é" * 43},
            )
        ),
    ],
)
def test_key_set_without_valid_key_is_refused(keys: Any) -> None:
    assert refusal(keys=keys) == "unknown_key"


# Fetching the key set


class Server:
    """A server on loopback that publishes a key set.

    Attributes:
        url: URL of the key set.
        status: status of the next responses.
        headers: headers of the next responses.
        body: body of the next responses.
        requests: number of requests so far.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self.status = 200
        self.headers = {"Cache-Control": "public, max-age=300"}
        self.body = json.dumps(KEYS).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    published = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            published.requests += 1
            self.send_response(published.status)
            for name, value in published.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(published.body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        published.url = f"http://127.0.0.1:{http.server_address[1]}/v1/stream/__ds/jwks.json"
        yield published
        http.shutdown()
        thread.join()


class Receiver:
    """A receiver of webhooks, with a clock that the test moves."""

    def __init__(self, url: str) -> None:
        self.time = 1000.0
        self.jwks = JwksClient(url, clock=lambda: self.time)

    def verdict(self, header: str = HEADER) -> str:
        """Verifies a webhook. Returns `accepted`, or the reason why it is refused."""
        try:
            self.jwks.verify(BODY, header, now=NOW)
        except WebhookVerificationError as error:
            return error.reason
        return "accepted"


def test_key_set_is_fetched_once_and_cached_for_its_max_age(server: Server) -> None:
    receiver = Receiver(server.url)
    assert server.requests == 0
    assert [receiver.verdict() for _ in range(3)] == ["accepted"] * 3
    receiver.time += 299
    assert (receiver.verdict(), server.requests) == ("accepted", 1)
    receiver.time += 1
    assert (receiver.verdict(), server.requests) == ("accepted", 2)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 300),
        ("no-cache", 300),
        ("s-maxage=7, public", 300),
        ("max-age=60", 60),
        ('private,MAX-AGE="60"', 60),
        ("max-age=0", webhooks.FETCH_INTERVAL),
        ("max-age=999999999", webhooks.LONGEST_MAX_AGE),
    ],
)
def test_max_age_of_key_set_has_limits(server: Server, header: str | None, seconds: float) -> None:
    server.headers = {"Cache-Control": header} if header else {}
    receiver = Receiver(server.url)
    receiver.verdict()
    receiver.time += seconds - 0.5
    receiver.verdict()
    assert server.requests == 1
    receiver.time += 0.5
    receiver.verdict()
    assert server.requests == 2


def test_new_key_is_fetched_after_rotation(server: Server) -> None:
    receiver = Receiver(server.url)
    assert receiver.verdict() == "accepted"
    keys = rotate([KEY], NOW)
    server.body = json.dumps(jwks(keys, NOW)).encode()
    receiver.time += webhooks.FETCH_INTERVAL
    assert receiver.verdict(sign(keys[0], NOW, BODY)) == "accepted"
    assert (receiver.verdict(), server.requests) == ("accepted", 2)


def test_unknown_key_ids_cause_one_fetch_per_interval(server: Server) -> None:
    receiver = Receiver(server.url)
    forged = [sign(generate(NOW), NOW, BODY) for _ in range(5)]
    assert {receiver.verdict(header) for header in forged} == {"unknown_key"}
    assert server.requests == 1
    receiver.time += webhooks.FETCH_INTERVAL
    assert {receiver.verdict(header) for header in forged} == {"unknown_key"}
    assert server.requests == 2
    assert receiver.verdict() == "accepted"


def test_malformed_or_old_signature_causes_no_fetch(server: Server) -> None:
    receiver = Receiver(server.url)
    assert receiver.verdict("nonsense") == "malformed_header"
    assert receiver.verdict(sign(KEY, NOW - 301, BODY)) == "outside_tolerance"
    assert server.requests == 0


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, json.dumps(KEYS).encode()),
        (500, b""),
        (200, b""),
        (200, b"[]"),
        (200, b"{"),
        (200, b"\xff"),
        (200, b"[" * 60_000),
        (200, b'{"keys":[]}'.ljust(webhooks.MAX_JWKS_BYTES + 1)),
    ],
)
def test_failed_fetch_is_retried_after_interval(server: Server, status: int, body: bytes) -> None:
    good, server.status, server.body = server.body, status, body
    receiver = Receiver(server.url)
    assert [receiver.verdict(), receiver.verdict()] == ["keys_unavailable"] * 2
    assert server.requests == 1
    server.status, server.body = 200, good
    receiver.time += webhooks.FETCH_INTERVAL
    assert receiver.verdict() == "accepted"


def test_expired_key_set_is_not_used_when_fetch_fails(server: Server) -> None:
    receiver = Receiver(server.url)
    assert receiver.verdict() == "accepted"
    server.status = 503
    receiver.time += 299
    assert receiver.verdict(sign(generate(NOW), NOW, BODY)) == "unknown_key"
    assert receiver.verdict() == "accepted"
    receiver.time += webhooks.FETCH_INTERVAL
    assert receiver.verdict() == "keys_unavailable"


def test_redirect_of_key_set_is_not_followed(server: Server) -> None:
    server.status, server.headers = 302, {"Location": server.url}
    assert Receiver(server.url).verdict() == "keys_unavailable"
    assert server.requests == 1


def test_refused_connection_means_keys_unavailable() -> None:
    assert Receiver("http://127.0.0.1:9/").verdict() == "keys_unavailable"


@pytest.mark.parametrize(
    "url",
    ["", "http://example.com/jwks.json", "http://127.0.0.1.example.com/", "file:///x", "https://"],
)
def test_key_set_url_must_be_https_or_loopback(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        JwksClient(url)


def test_webhooks_module_imports_no_server_code() -> None:
    code = (
        "import sys, durable_streams_server.webhooks; "
        "print([n for n in sys.modules if n.startswith('durable_streams_server.')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "http." not in shown.stdout
    assert "subscriptions" not in shown.stdout
