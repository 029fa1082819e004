"""Tests subscriptions of the real command over real sockets, with slow workers, dead receivers, and kills of the server.

The server is another process with a real clock, so these tests wait in real time.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from durable_streams_server.webhooks import verify
from tests.process import ServerProcess, launch
from tests.webhook import BROKEN, DONE, TAKEN, Delivery, receiving

BASE = "/v1/stream"
JSON = {"content-type": "application/json"}
SHORT = 1_000  # milliseconds; no lease may be shorter
LONG = 60_000


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    """Runs a server on a data directory, and kills it with SIGKILL at the end of the block."""
    with (
        launch("--data-dir", str(folder)) as server,
        httpx.Client(base_url=server.url + BASE, headers=JSON, timeout=10) as http,
    ):
        yield server, http


def subscribe(
    http: httpx.Client, id_: str, url: str, lease: int = SHORT, stream: str = "a"
) -> None:
    wanted = {"type": "webhook", "streams": [stream], "webhook": {"url": f"{url}/{id_}"}}
    body = {**wanted, "lease_ttl_ms": lease}
    assert http.put(f"__ds/subscriptions/{id_}", json=body).status_code == 201


def append(http: httpx.Client, stream: str = "a") -> str:
    http.put(stream)
    return str(http.post(stream, content="1").raise_for_status().headers["stream-next-offset"])


def acknowledge(
    http: httpx.Client, wake: dict[str, Any], offset: str | None = None, done: bool = True
) -> httpx.Response:
    """Acknowledges a wake that lists one stream. Uses `callback` for a webhook and `ack` for a claim."""
    action, token = (
        ("callback", wake["callback_token"]) if "callback_token" in wake else ("ack", wake["token"])
    )
    acks = [] if offset is None else [{"stream": wake["streams"][0]["path"], "offset": offset}]
    return http.post(
        f"__ds/subscriptions/s/{action}",
        json={
            "wake_id": wake["wake_id"],
            "generation": wake["generation"],
            "acks": acks,
            "done": done,
        },
        headers={"authorization": f"Bearer {token}"},
    )


def subscription(http: httpx.Client, id_: str = "s") -> dict[str, Any]:
    document: dict[str, Any] = http.get(f"__ds/subscriptions/{id_}").raise_for_status().json()
    return document


def acknowledged_offset(http: httpx.Client) -> str:
    return str(subscription(http)["streams"][0]["acked_offset"])


def wait_until_acknowledged(http: httpx.Client, offset: str) -> None:
    until = time.monotonic() + 5
    while acknowledged_offset(http) != offset:
        assert time.monotonic() < until
        time.sleep(0.01)  # the server is another process and cannot notify this one


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_heartbeats_keep_the_lease_and_the_next_wake_lists_new_appends(
    tmp_path: Path,
) -> None:
    with receiving() as hook, running(tmp_path) as (server, http):
        hook.answer = lambda _: TAKEN
        subscribe(http, "s", hook.url)
        first = append(http)
        wake = hook.next().wake
        assert wake["callback_url"] == f"{server.url}{BASE}/__ds/subscriptions/s/callback"
        for _ in range(3):  # 1.5 s, which is longer than the lease
            time.sleep(0.5)
            assert acknowledge(http, wake, done=False).json() == {"ok": True, "next_wake": False}
        second = append(http)
        assert hook.is_quiet(0.1), "one wake at a time"
        assert acknowledge(http, wake, first).json() == {"ok": True, "next_wake": True}
        following = hook.next().wake
        assert following["generation"] == wake["generation"] + 1
        assert following["wake_id"] != wake["wake_id"]
        assert following["streams"][0]["acked_offset"] == first
        assert acknowledge(http, following, second).json() == {"ok": True, "next_wake": False}
        assert acknowledged_offset(http) == second
        assert code(acknowledge(http, following, second)) == (409, "FENCED")
        assert hook.is_quiet(0.1)


def test_wake_is_sent_again_after_receiver_misses_its_lease(
    tmp_path: Path,
) -> None:
    with receiving() as hook, running(tmp_path) as (_, http):
        hook.answer = lambda _: TAKEN
        subscribe(http, "s", hook.url)
        offset = append(http)
        slow, again = hook.next(), hook.next()
        assert 0.5 < again.at - slow.at < 2  # the receiver may have received the first one late
        assert again.wake["generation"] == slow.wake["generation"] + 1
        assert code(acknowledge(http, slow.wake, offset)) == (409, "FENCED")
        mixed = {**slow.wake, "generation": again.wake["generation"]}
        assert code(acknowledge(http, mixed, offset)) == (409, "FENCED")
        assert acknowledged_offset(http) < offset
        assert acknowledge(http, again.wake, offset).status_code == 200
        assert acknowledged_offset(http) == offset


def test_subscription_is_failed_until_a_retry_succeeds(
    tmp_path: Path,
) -> None:
    with receiving() as hook, running(tmp_path) as (_, http):
        hook.answer = lambda _: BROKEN
        subscribe(http, "s", hook.url)
        offset = append(http)
        first = hook.next()
        until = time.monotonic() + 0.5
        while subscription(http)["status"] != "failed":
            assert time.monotonic() < until
        hook.answer = lambda _: DONE
        second = hook.next()
        assert 0.75 < second.at - first.at < 2
        assert second.wake["wake_id"] == first.wake["wake_id"]
        wait_until_acknowledged(http, offset)
        assert subscription(http)["status"] == "active"
        assert hook.is_quiet(0.1)


def test_restart_keeps_the_time_of_the_next_retry(tmp_path: Path) -> None:
    with receiving() as hook:
        hook.answer = lambda _: BROKEN
        with running(tmp_path) as (_, http):
            subscribe(http, "s", hook.url)
            offset = append(http)
            hook.next()
            second = hook.next()  # the next retry follows after two seconds, give or take 20%
            time.sleep(0.1)  # until the server has stored the failure
        hook.answer = lambda _: DONE
        with running(tmp_path) as (_, http):
            third = hook.next()
            assert third.at - second.at > 1.5
            assert third.wake["wake_id"] == second.wake["wake_id"]
            wait_until_acknowledged(http, offset)


def test_kill_between_append_and_delivery_loses_no_delivery(tmp_path: Path) -> None:
    with receiving() as hook:
        hook.answer = lambda delivery: None
        with running(tmp_path) as (_, http):
            for number in range(4):  # the number of slots of a silent host
                subscribe(http, f"stuck{number}", hook.url, LONG)
            subscribe(http, "s", hook.url, LONG)
            offset = append(http)
            assert len({hook.next().path for _ in range(4)}) == 4
            assert hook.is_quiet(0.2), "the fifth waits for a slot"
        hook.answer = lambda _: DONE
        with running(tmp_path) as (_, http):
            delivered = {hook.next().path for _ in range(5)}
            assert delivered == {"/s", *(f"/stuck{number}" for number in range(4))}
            wait_until_acknowledged(http, offset)


def test_token_stays_valid_after_a_kill_between_delivery_and_callback(tmp_path: Path) -> None:
    with receiving() as hook:
        hook.answer = lambda _: TAKEN
        with running(tmp_path) as (_, http):
            subscribe(http, "s", hook.url, LONG)
            offset = append(http)
            wake = hook.next().wake
            time.sleep(0.1)  # until the server has stored the answer
        with running(tmp_path) as (_, http):
            assert hook.is_quiet(0.2), "its lease runs on"
            assert acknowledge(http, wake, offset).json() == {"ok": True, "next_wake": False}
            assert acknowledged_offset(http) == offset


def begin_rotation(directory: Path) -> None:
    """Tells the server of a directory to rotate its keys, and does not wait for that."""
    with socket.socket(socket.AF_UNIX) as commands:
        commands.connect(str(directory / "commands.sock"))
        commands.sendall(b'{"command":"rotate-keys"}\n')


def test_claim_stays_valid_after_a_kill_during_a_key_rotation(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as (_, http):
        http.put("wakes")
        body = {"type": "pull-wake", "streams": ["a"], "wake_stream": "wakes", "lease_ttl_ms": LONG}
        assert http.put("__ds/subscriptions/s", json=body).status_code == 201
        offset = append(http)
        wake = http.post("__ds/subscriptions/s/claim", json={"worker": "one"}).json()
        keys = http.get("__ds/jwks.json").json()["keys"]
        begin_rotation(tmp_path)
    with running(tmp_path) as (_, http):
        other = http.post("__ds/subscriptions/s/claim", json={"worker": "two"})
        assert code(other) == (409, "ALREADY_CLAIMED")
        assert other.json()["error"]["current_holder"] == "one"
        kept = http.get("__ds/jwks.json").json()["keys"]
        assert kept[-1:] == keys
        assert len(kept) in (1, 2), "the rotation came to be, or it did not"
        assert acknowledge(http, wake, offset).json() == {"ok": True, "next_wake": False}
        assert acknowledged_offset(http) == offset


def test_published_keys_verify_all_deliveries_after_kills_during_rotations(
    tmp_path: Path,
) -> None:
    deliveries: list[Delivery] = []
    with receiving() as hook:
        for life in range(3):
            with running(tmp_path) as (_, http):
                if life == 0:
                    subscribe(http, "s", hook.url)
                append(http)
                deliveries.append(hook.next())
                begin_rotation(tmp_path)
                # Each server process is killed at another moment of its rotation.
                time.sleep(0.002 * life)
        with running(tmp_path) as (_, http):
            append(http)
            deliveries.append(hook.next())
            document = http.get("__ds/jwks.json").json()
            for delivery in deliveries:
                verify(delivery.body, delivery.signature, document)


def test_receiver_that_never_answers_does_not_delay_others(tmp_path: Path) -> None:
    with receiving("127.0.0.2") as dead, receiving() as alive, running(tmp_path) as (_, http):
        dead.answer = lambda _: None
        for number in range(12):  # more than the slots of one host
            subscribe(http, f"dead{number}", dead.url, LONG)
        subscribe(http, "s", alive.url, LONG)
        for _ in range(5):
            began = time.monotonic()
            offset = append(http)
            assert alive.next(1).at - began < 0.5
            wait_until_acknowledged(http, offset)


def test_delivery_without_an_answer_is_sent_again_after_the_lease(
    tmp_path: Path,
) -> None:
    with receiving() as hook, running(tmp_path) as (_, http):
        hook.answer = lambda _: None
        subscribe(http, "s", hook.url)
        offset = append(http)
        first = hook.next()
        hook.answer = lambda _: DONE
        second = hook.next()
        assert 0.5 < second.at - first.at < 2.5, "the lease"
        assert second.wake["generation"] == first.wake["generation"] + 1, "it may still be at work"
        assert code(acknowledge(http, first.wake, offset)) == (409, "FENCED")
        wait_until_acknowledged(http, offset)
