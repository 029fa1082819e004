"""Subscriptions of the real command, over real sockets: what workers meet when things go wrong, kills of the server included."""

import contextlib
import signal
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
SHORT = 1_000  # milliseconds, the least there is
LONG = 60_000


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    """Runs a server on a data directory; the end of the block kills it, as `kill -9` would."""
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


def call_back(
    http: httpx.Client, wake: dict[str, Any], offset: str | None = None, done: bool = True
) -> httpx.Response:
    """Acknowledges a wake of one stream, by callback or by ack."""
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


def known(http: httpx.Client, id_: str = "s") -> dict[str, Any]:
    document: dict[str, Any] = http.get(f"__ds/subscriptions/{id_}").raise_for_status().json()
    return document


def acked(http: httpx.Client) -> str:
    return str(known(http)["streams"][0]["acked_offset"])


def wait_until_acked(http: httpx.Client, offset: str) -> None:
    until = time.monotonic() + 5
    while acked(http) != offset:
        assert time.monotonic() < until
        time.sleep(0.01)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_worker_that_calls_back_keeps_its_lease_and_is_told_of_what_came_meanwhile(
    tmp_path: Path,
) -> None:
    with receiving() as hook, running(tmp_path) as (server, http):
        hook.answer = lambda _: TAKEN
        subscribe(http, "s", hook.url)
        first = append(http)
        wake = hook.next().wake
        assert wake["callback_url"] == f"{server.url}{BASE}/__ds/subscriptions/s/callback"
        for _ in range(3):  # longer in all than the lease
            time.sleep(0.5)
            assert call_back(http, wake, done=False).json() == {"ok": True, "next_wake": False}
        second = append(http)
        assert hook.is_quiet(0.1), "one wake at a time"
        assert call_back(http, wake, first).json() == {"ok": True, "next_wake": True}
        following = hook.next().wake
        assert following["generation"] == wake["generation"] + 1
        assert following["wake_id"] != wake["wake_id"]
        assert following["streams"][0]["acked_offset"] == first
        assert call_back(http, following, second).json() == {"ok": True, "next_wake": False}
        assert acked(http) == second
        assert code(call_back(http, following, second)) == (409, "FENCED")
        assert hook.is_quiet(0.1)


def test_who_misses_the_lease_is_fenced_and_the_wake_goes_out_again(tmp_path: Path) -> None:
    with receiving() as hook, running(tmp_path) as (_, http):
        hook.answer = lambda _: TAKEN
        subscribe(http, "s", hook.url)
        offset = append(http)
        slow, again = hook.next(), hook.next()
        assert 0.5 < again.at - slow.at < 2  # the receiver may see the first one late
        assert again.wake["generation"] == slow.wake["generation"] + 1
        assert code(call_back(http, slow.wake, offset)) == (409, "FENCED")
        mixed = {**slow.wake, "generation": again.wake["generation"]}
        assert code(call_back(http, mixed, offset)) == (409, "FENCED")
        assert acked(http) < offset
        assert call_back(http, again.wake, offset).status_code == 200
        assert acked(http) == offset


def test_a_failed_delivery_is_tried_again_and_shows_as_failed_until_it_is_taken(
    tmp_path: Path,
) -> None:
    with receiving() as hook, running(tmp_path) as (_, http):
        hook.answer = lambda _: BROKEN
        subscribe(http, "s", hook.url)
        offset = append(http)
        first = hook.next()
        until = time.monotonic() + 0.5
        while known(http)["status"] != "failed":
            assert time.monotonic() < until
        hook.answer = lambda _: DONE
        second = hook.next()
        assert 0.75 < second.at - first.at < 2
        assert second.wake["wake_id"] == first.wake["wake_id"]
        wait_until_acked(http, offset)
        assert known(http)["status"] == "active"
        assert hook.is_quiet(0.1)


def test_a_restart_honours_when_a_delivery_is_to_be_tried_again(tmp_path: Path) -> None:
    with receiving() as hook:
        hook.answer = lambda _: BROKEN
        with running(tmp_path) as (_, http):
            subscribe(http, "s", hook.url)
            offset = append(http)
            hook.next()
            second = hook.next()  # from here on it is two seconds, give or take a fifth
            time.sleep(0.1)
        hook.answer = lambda _: DONE
        with running(tmp_path) as (_, http):
            assert known(http)["status"] == "failed"
            third = hook.next()
            assert 1.5 < third.at - second.at < 3
            assert third.wake["wake_id"] == second.wake["wake_id"]
            wait_until_acked(http, offset)


def test_a_kill_between_append_and_delivery_costs_no_delivery(tmp_path: Path) -> None:
    with receiving() as hook:
        hook.answer = lambda delivery: None
        with running(tmp_path) as (_, http):
            for number in range(4):  # as many as a host gets at once that has not answered
                subscribe(http, f"stuck{number}", hook.url, LONG)
            subscribe(http, "s", hook.url, LONG)
            offset = append(http)
            assert len({hook.next().path for _ in range(4)}) == 4
            assert hook.is_quiet(0.2), "the fifth waits for a place"
        hook.answer = lambda _: DONE
        with running(tmp_path) as (_, http):
            told = {hook.next().path for _ in range(5)}
            assert told == {"/s", *(f"/stuck{number}" for number in range(4))}
            wait_until_acked(http, offset)


def test_a_kill_between_delivery_and_callback_leaves_the_token_good(tmp_path: Path) -> None:
    with receiving() as hook:
        hook.answer = lambda _: TAKEN
        with running(tmp_path) as (_, http):
            subscribe(http, "s", hook.url, LONG)
            offset = append(http)
            wake = hook.next().wake
            time.sleep(0.1)  # for the server to have the answer
        with running(tmp_path) as (_, http):
            assert hook.is_quiet(0.2), "its lease runs on"
            assert call_back(http, wake, offset).json() == {"ok": True, "next_wake": False}
            assert acked(http) == offset


def test_a_kill_between_claim_and_ack_and_in_a_rotation_leaves_the_claim_good(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as (server, http):
        http.put("wakes")
        body = {"type": "pull-wake", "streams": ["a"], "wake_stream": "wakes", "lease_ttl_ms": LONG}
        assert http.put("__ds/subscriptions/s", json=body).status_code == 201
        offset = append(http)
        wake = http.post("__ds/subscriptions/s/claim", json={"worker": "one"}).json()
        keys = http.get("__ds/jwks.json").json()["keys"]
        server.process.send_signal(signal.SIGHUP)
    with running(tmp_path) as (_, http):
        other = http.post("__ds/subscriptions/s/claim", json={"worker": "two"})
        assert code(other) == (409, "ALREADY_CLAIMED")
        assert other.json()["error"]["current_holder"] == "one"
        kept = http.get("__ds/jwks.json").json()["keys"]
        assert kept[-1:] == keys
        assert len(kept) in (1, 2), "the rotation came to be, or it did not"
        assert call_back(http, wake, offset).json() == {"ok": True, "next_wake": False}
        assert acked(http) == offset


def test_kills_in_the_middle_of_rotations_leave_keys_that_all_deliveries_verify_with(
    tmp_path: Path,
) -> None:
    deliveries: list[Delivery] = []
    with receiving() as hook:
        for life in range(3):
            with running(tmp_path) as (server, http):
                if life == 0:
                    subscribe(http, "s", hook.url)
                append(http)
                deliveries.append(hook.next())
                server.process.send_signal(signal.SIGHUP)
                time.sleep(0.002 * life)
        with running(tmp_path) as (_, http):
            append(http)
            deliveries.append(hook.next())
            document = http.get("__ds/jwks.json").json()
            for delivery in deliveries:
                verify(delivery.body, delivery.signature, document)


def test_a_receiver_that_never_answers_delays_no_other(tmp_path: Path) -> None:
    with receiving("127.0.0.2") as dead, receiving() as alive, running(tmp_path) as (_, http):
        dead.answer = lambda _: None
        for number in range(12):  # more than may wait for one host at once
            subscribe(http, f"dead{number}", dead.url, LONG)
        subscribe(http, "s", alive.url, LONG)
        for _ in range(5):
            began = time.monotonic()
            offset = append(http)
            assert alive.next(1).at - began < 0.5
            wait_until_acked(http, offset)


def test_a_receiver_that_never_answers_is_given_up_after_the_lease_and_told_again(
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
        assert code(call_back(http, first.wake, offset)) == (409, "FENCED")
        wait_until_acked(http, offset)
