"""Creates many subscriptions for rows and trials. The id of a subscription is its number, counted from 0."""

import json
from collections.abc import Iterable
from typing import Any, Final

from .client import create, octets
from .stall.crowd import pipelined

JSON: Final = "application/json"
ROOT: Final = "/v1/stream"
_WAKES: Final = "wake/pool"
_LEASE: Final = 600_000  # milliseconds, the maximum, so that no lease ends during a measurement


def control(number: int, action: str) -> str:
    """Returns the path of a worker's action, such as `claim`, on a subscription."""
    return f"{ROOT}/__ds/subscriptions/{number}/{action}"


def pull_wakes(port: int, count: int, *, pattern: str = "", stream: str = "") -> None:
    """Creates pull-wake subscriptions and the wake stream that they share.

    Args:
        port: the port of the server.
        count: the number of subscriptions.
        pattern: the pattern of every subscription, or "".
        stream: the path of each subscription's explicitly linked stream, or "". `#` stands for the subscription's number.
    """
    create(port, [f"{ROOT}/{_WAKES}"], JSON)

    def body(number: int) -> dict[str, object]:
        links = _links(number, pattern, stream)
        return {"type": "pull-wake", "wake_stream": _WAKES, **links}

    _subscribe(port, map(body, range(count)))


def webhooks(
    port: int, count: int, urls: list[str], *, pattern: str = "", stream: str = ""
) -> None:
    """Creates webhook subscriptions.

    Args:
        port: the port of the server.
        count: the number of subscriptions.
        urls: the URLs of the receiver, which the subscriptions use in turn.
        pattern: the pattern of every subscription, or "".
        stream: the path of each subscription's explicitly linked stream, or "". `#` stands for the subscription's number.
    """

    def body(number: int) -> dict[str, object]:
        links = _links(number, pattern, stream)
        return {"type": "webhook", "webhook": {"url": urls[number % len(urls)]}, **links}

    _subscribe(port, map(body, range(count)))


def acknowledgement(number: int, claimed: dict[str, Any], acks: list[dict[str, str]]) -> bytes:
    """Returns the request that acknowledges offsets and ends a claimed wake.

    Args:
        number: the number of the subscription.
        claimed: the response to the claim.
        acks: the offsets to acknowledge.
    """
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
