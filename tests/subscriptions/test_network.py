"""Tests that connections go only to addresses that the policy allows."""

from typing import Any

import httpcore2
import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.lookups import SystemResolver
from durable_streams_server.subscriptions.network import (
    MAX_ATTEMPTS,
    CheckedNetwork,
    DeliveryFailed,
    Resolver,
    at_once,
)
from tests.subscriptions.places import LOOPBACK, NEVER, PRIVATE, PUBLIC
from tests.subscriptions.receivers import LoopbackNetwork, receiver
from tests.subscriptions.services import run_turns

HOST = "hooks.example.com"


def resolving(*answers: list[str]) -> Resolver:
    """Returns a resolver that returns one of `answers` after another, and no addresses after the last."""
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0) if left else []

    return resolve


@pytest.mark.parametrize("address", PUBLIC)
async def test_connection_goes_to_the_address_that_was_checked(address: str) -> None:
    async with receiver() as it:
        loopback = LoopbackNetwork(it.port)
        network = CheckedNetwork(WebhookPolicy(), resolving([address]), loopback, at_once)
        await (await network.connect_tcp(HOST, 443)).aclose()
        assert loopback.asked == [(address, 443)]


@pytest.mark.parametrize("address", [*LOOPBACK, *PRIVATE, *NEVER])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_name_with_one_forbidden_address_is_refused(address: str, place: int) -> None:
    found = ["8.8.8.8", "2606:4700::1111"]
    found.insert(place, address)
    loopback = LoopbackNetwork(0)
    network = CheckedNetwork(
        WebhookPolicy(allow_loopback=True), resolving(found), loopback, at_once
    )
    with pytest.raises(BadRequest):
        await network.connect_tcp(HOST, 443)
    assert loopback.asked == []


@pytest.mark.parametrize("address", [*LOOPBACK, *PRIVATE, *NEVER])
async def test_forbidden_address_in_place_of_a_name_is_refused(address: str) -> None:
    loopback = LoopbackNetwork(0)
    network = CheckedNetwork(WebhookPolicy(), resolving([address]), loopback, at_once)
    with pytest.raises(BadRequest):
        await network.connect_tcp(address, 443)
    assert loopback.asked == []


async def test_each_connection_resolves_and_checks_the_name_again() -> None:
    async with receiver() as it:
        loopback = LoopbackNetwork(it.port)
        network = CheckedNetwork(
            WebhookPolicy(), resolving(["8.8.8.8"], ["127.0.0.1"]), loopback, at_once
        )
        await (await network.connect_tcp(HOST, 443)).aclose()
        with pytest.raises(BadRequest):
            await network.connect_tcp(HOST, 443)
        assert loopback.asked == [("8.8.8.8", 443)]


async def test_next_address_is_tried_if_one_is_unreachable() -> None:
    async with receiver() as it:
        loopback = LoopbackNetwork(it.port, down=["2606:4700::1111"])
        network = CheckedNetwork(
            WebhookPolicy(), resolving(["2606:4700::1111", "8.8.8.8", "8.8.4.4"]), loopback, at_once
        )
        await (await network.connect_tcp(HOST, 443)).aclose()
        assert [address for address, _ in loopback.asked] == ["2606:4700::1111", "8.8.8.8"]


def test_connection_closed_by_uvloop_is_reported_as_disconnected() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def ask() -> None:
        async with receiver() as it:
            network = CheckedNetwork(
                WebhookPolicy(), resolving(["8.8.8.8"]), LoopbackNetwork(it.port), at_once
            )
            stream = await network.connect_tcp(HOST, 443)
            await stream.aclose()
            await run_turns()
            assert stream.get_extra_info("is_readable")
            assert stream.get_extra_info("ssl_object") is None

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(ask())
    finally:
        loop.close()


async def test_connection_tries_a_limited_number_of_addresses() -> None:
    many = [f"8.8.8.{last}" for last in range(50)]
    loopback = LoopbackNetwork(0, down=many)
    network = CheckedNetwork(WebhookPolicy(), resolving(many), loopback, at_once)
    with pytest.raises(Exception, match="down"):
        await network.connect_tcp(HOST, 443)
    assert len(loopback.asked) == MAX_ATTEMPTS


async def test_name_without_addresses_fails() -> None:
    network = CheckedNetwork(WebhookPolicy(), resolving(), LoopbackNetwork(0), at_once)
    with pytest.raises(DeliveryFailed, match="does not resolve"):
        await network.connect_tcp(HOST, 443)


async def test_address_that_times_out_is_treated_as_unreachable() -> None:
    class Full(LoopbackNetwork):
        async def connect_tcp(self, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
            raise httpcore2.ConnectTimeout

    network = CheckedNetwork(WebhookPolicy(), resolving(["8.8.8.8"]), Full(0), at_once)
    with pytest.raises(DeliveryFailed, match="took no connection") as caught:
        await network.connect_tcp(HOST, 443)
    assert caught.value.code == "unreachable"
    assert not caught.value.timed_out


async def test_name_that_idna_forbids_fails() -> None:
    network = CheckedNetwork(WebhookPolicy(), SystemResolver(), LoopbackNetwork(0), at_once)
    with pytest.raises(DeliveryFailed, match="does not resolve") as caught:
        await network.connect_tcp("xn--999999999.example", 443)
    assert caught.value.code == "unreachable"


async def test_connection_waits_for_loop_turn_before_each_request_and_answer() -> None:
    turns: list[str] = []

    async def turn() -> None:
        turns.append("turn")

    async with receiver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as it:
        network = CheckedNetwork(
            WebhookPolicy(), resolving(["8.8.8.8"]), LoopbackNetwork(it.port), turn
        )
        stream = await network.connect_tcp(HOST, 443)
        for exchanges in (1, 2):
            await stream.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
            await stream.write(b"{}")
            assert len(turns) == 2 * exchanges - 1
            answer = b""
            while not answer.endswith(b"{}"):
                answer += await stream.read(10)
            assert len(turns) == 2 * exchanges
        await stream.aclose()
