"""Requests about subscriptions, for the rows and trials that need many of them. A subscription's id is its number, from 0."""

import json
from collections.abc import Iterable
from typing import Any, Final

from .client import create, octets
from .stall.crowd import pipelined

JSON: Final = "application/json"
ROOT: Final = "/v1/stream"
_WAKES: Final = "wake/pool"
_LEASE: Final = 600_000  # milliseconds, the longest: no lease ends while something is measured


def control(number: int, action: str) -> str:
    """Returns the path at which a worker does something to a subscription."""
    return f"{ROOT}/__ds/subscriptions/{number}/{action}"


def pull_wakes(port: int, count: int, *, pattern: str = "", stream: str = "") -> None:
    """Creates pull-wake subscriptions and the wake stream that they share.

    Args:
        port: of the server.
        count: how many.
        pattern: links every one of them to the streams that it matches, if given.
        stream: links each to one stream, if given; `#` stands for the subscription's number.
    """
    create(port, [f"{ROOT}/{_WAKES}"], JSON)

    def body(number: int) -> dict[str, object]:
        links = _links(number, pattern, stream)
        return {"type": "pull-wake", "wake_stream": _WAKES, **links}

    _subscribe(port, map(body, range(count)))


def webhooks(
    port: int, count: int, urls: list[str], *, pattern: str = "", stream: str = ""
) -> None:
    """Creates webhook subscriptions, which take turns with the URLs; otherwise as `pull_wakes`."""

    def body(number: int) -> dict[str, object]:
        links = _links(number, pattern, stream)
        return {"type": "webhook", "webhook": {"url": urls[number % len(urls)]}, **links}

    _subscribe(port, map(body, range(count)))


def acknowledgement(number: int, claimed: dict[str, Any], acks: list[dict[str, str]]) -> bytes:
    """Returns the request that ends a claimed wake, with the offsets in `acks`."""
    named = {"wake_id": claimed["wake_id"], "generation": claimed["generation"]}
    body = json.dumps({**named, "acks": acks, "done": True}).encode()
    head, _, _ = octets("POST", control(number, "ack"), JSON, body).partition(b"\r\n\r\n")
    return b"%b\r\nAuthorization: Bearer %b\r\n\r\n%b" % (head, claimed["token"].encode(), body)


def _links(number: int, pattern: str, stream: str) -> dict[str, object]:
    by_pattern: dict[str, object] = {"pattern": pattern} if pattern else {}
    by_name = {"streams": [stream.replace("#", str(number))]} if stream else {}
    return {**by_pattern, **by_name}


def _subscribe(port: int, bodies: Iterable[dict[str, object]]) -> None:
    requests = (
        octets(
            "PUT",
            f"{ROOT}/__ds/subscriptions/{number}",
            JSON,
            json.dumps({**body, "lease_ttl_ms": _LEASE}).encode(),
        )
        for number, body in enumerate(bodies)
    )
    if bad := pipelined(port, requests):
        raise RuntimeError(f"{bad:,} subscriptions were refused")
