"""Verifies the deliveries of a real server with a receiver that was written from the text of the protocol alone.

The receiver uses none of our code. It follows PROTOCOL 6.5 (the key set), 7.1 and 12.10 (the signature), and RFC 8032 through the
package `cryptography`.
"""

import asyncio
import base64
import json
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from durable_streams_server import DurableStreamTestServer, FileBackedStreamStore
from durable_streams_server.webhooks import WebhookVerificationError, verify
from tests.subscriptions.receivers import OK, receiver

BASE = "/v1/stream"
JSON = {"content-type": "application/json"}
DELIVERIES = 1_000
SUBSCRIPTIONS = 24
STREAMS = 16
WRITERS = 4


class Refused(Exception):
    """Raised for a request that the server has not signed, or has not signed recently."""


def decode(text: str) -> bytes:
    """Decodes unpadded base64url (RFC 4648, 5). Refuses text whose spare bits are not zero (RFC 4648, 3.5)."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise Refused("not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise Refused("not base64url in its one spelling")
    return data


def verified(head: bytes, body: bytes, keys: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Returns the document of a delivery.

    Raises:
        Refused: the signature was not made by one of the keys, or not within the last 300 seconds.
    """
    lines = head.split(b"\r\n")[1:-2]
    values = [
        value
        for name, _, value in (line.partition(b": ") for line in lines)
        if name.lower() == b"webhook-signature"
    ]
    if len(values) != 1 or not values[0].isascii():
        raise Refused("no signature")
    pairs = [part.partition("=")[::2] for part in values[0].decode("ascii").split(",")]
    parts = dict(pairs)
    if len(pairs) != 3 or set(parts) != {"t", "kid", "ed25519"}:
        raise Refused("the signature has other parts")
    if not parts["t"].isdecimal() or abs(time.time() - int(parts["t"])) > 300:
        raise Refused("not now")
    key = keys.get(parts["kid"])
    if key is None:
        raise Refused("no such key")
    assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA")
    try:
        Ed25519PublicKey.from_public_bytes(decode(key["x"])).verify(
            decode(parts["ed25519"]), parts["t"].encode() + b"." + body
        )
    except InvalidSignature:
        raise Refused("another body, or another signature") from None
    document: dict[str, Any] = json.loads(body)
    return document


async def fetch_keys(http: httpx.AsyncClient) -> dict[str, dict[str, str]]:
    answer = await http.get("__ds/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    return {key["kid"]: key for key in answer.json()["keys"]}


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, dict[str, Any]]:
    """The head and body of one delivery of a real server, and the server's key set."""
    return asyncio.run(receive_one_delivery(tmp_path_factory.mktemp("data")))


async def receive_one_delivery(folder: Path) -> tuple[bytes, bytes, dict[str, Any]]:
    store = FileBackedStreamStore(folder)
    delivered = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        delivered.set()

    async with (
        receiver(answer) as hook,
        DurableStreamTestServer(store=store) as server,
        httpx.AsyncClient(base_url=server.base_url + BASE, headers=JSON) as http,
    ):
        await subscribe(http, "s", hook.port)
        await http.put("events/a")
        await http.post("events/a", content="1")
        async with asyncio.timeout(5):
            await delivered.wait()
        head, body = hook.requests[0]
        keys = (await http.get("__ds/jwks.json")).json()
    store.close()
    return head, body, keys


async def subscribe(http: httpx.AsyncClient, id_: str, port: int, pattern: str = "**") -> None:
    url = f"http://127.0.0.1:{port}/{id_}"
    body = {"type": "webhook", "pattern": pattern, "webhook": {"url": url}}
    assert (await http.put(f"__ds/subscriptions/{id_}", json=body)).status_code == 201


async def test_receiver_verifies_a_thousand_deliveries_across_a_key_rotation(
    tmp_path: Path,
) -> None:
    half, enough = asyncio.Event(), asyncio.Event()
    chance = random.Random(1)
    keys: dict[str, dict[str, str]] = {}
    generations: dict[str, int] = {}
    cursors: dict[tuple[str, str], str] = {}
    used: set[str] = set()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        if len(hook.requests) >= DELIVERIES // 2:
            half.set()
        if len(hook.requests) >= DELIVERIES:
            enough.set()

    async def write(http: httpx.AsyncClient) -> None:
        while not enough.is_set():
            await http.post(f"events/{chance.randrange(STREAMS)}", content="1")

    store = FileBackedStreamStore(tmp_path)
    async with (
        receiver(answer) as hook,
        DurableStreamTestServer(store=store) as server,
        httpx.AsyncClient(base_url=server.base_url + BASE, headers=JSON) as http,
    ):
        for number in range(SUBSCRIPTIONS):
            pattern = chance.choice(["**", "events/*", "*/*", f"events/{number % STREAMS}"])
            await subscribe(http, f"s{number}", hook.port, pattern)
        for number in range(STREAMS):
            await http.put(f"events/{number}")
        before = await fetch_keys(http)
        writers = [asyncio.create_task(write(http)) for _ in range(WRITERS)]
        async with asyncio.timeout(30):
            await half.wait()
            server.app.service.credentials.rotate()
            await asyncio.gather(*writers)
        keys = await fetch_keys(http)
    store.close()

    for head, body in hook.requests:
        wake = verified(head, body, keys)
        id_ = wake["subscription_id"]
        used.update(kid for kid in keys if kid.encode() in head)
        assert head.startswith(b"POST /%b HTTP/1.1\r\n" % id_.encode())
        assert wake["generation"] > generations.get(id_, 0), "no delivery was tried twice"
        generations[id_] = wake["generation"]
        assert any(stream["has_pending"] for stream in wake["streams"])
        for stream in wake["streams"]:
            known = cursors.get((id_, stream["path"]), "")
            assert known <= stream["acked_offset"] <= stream["tail_offset"]
            cursors[id_, stream["path"]] = stream["tail_offset"]
    assert len(hook.requests) >= DELIVERIES
    assert len(generations) > SUBSCRIPTIONS // 2
    assert used == set(keys)
    assert set(before) < set(keys)


def test_receiver_refuses_a_delivery_with_any_flipped_bit(
    delivery: tuple[bytes, bytes, dict[str, Any]],
) -> None:
    head, body, key_document = delivery
    keys = {key["kid"]: key for key in key_document["keys"]}
    start = head.lower().index(b"webhook-signature: ") + len(b"webhook-signature: ")
    header = head[start : head.index(b"\r\n", start)]
    verified(head, body, keys)
    verify(body, header.decode(), key_document)
    for position in range(len(body)):
        for bit in range(8):
            other = with_flipped_bit(body, position, bit)
            with pytest.raises(Refused):
                verified(head, other, keys)
            with pytest.raises(WebhookVerificationError):
                verify(other, header.decode(), key_document)
    for position in range(len(header)):
        for bit in range(8):
            changed = with_flipped_bit(header, position, bit)
            with pytest.raises(Refused):
                verified(head.replace(header, changed), body, keys)
            with pytest.raises(WebhookVerificationError):
                verify(body, changed.decode("latin-1"), key_document)


def test_receiver_refuses_a_changed_header_name_a_changed_body_and_an_unknown_key(
    delivery: tuple[bytes, bytes, dict[str, Any]],
) -> None:
    head, body, key_document = delivery
    keys = {key["kid"]: key for key in key_document["keys"]}
    name = head.lower().index(b"webhook-signature")
    for position in range(name, name + len(b"webhook-signature")):
        for bit in (0, 1, 2, 3, 4, 6, 7):  # bit 5 is the case, which header names ignore
            with pytest.raises(Refused):
                verified(with_flipped_bit(head, position, bit), body, keys)
    for other in (body[:-1], body[1:], body + b" ", b" " + body, b"", body + body):
        with pytest.raises(Refused):
            verified(head, other, keys)
    with pytest.raises(Refused, match="no such key"):
        verified(head, body, {})


def with_flipped_bit(data: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)
