"""Tests which addresses and certificates the webhook client accepts."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.subscriptions import client as client_module
from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.client import Reply, WebhookClient
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.time_limit import TimeLimit
from tests.subscriptions.exchanges import (
    BODY,
    HEADERS,
    LOCAL,
    NAME,
    endless,
    resolve_to_public_address,
)
from tests.subscriptions.places import PUBLIC
from tests.subscriptions.receivers import Authority, LoopbackNetwork, receiver

# Addresses


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "64:ff9b::a00:1"])
async def test_name_with_a_forbidden_address_is_not_connected_to(address: str) -> None:
    async def inside(host: str, port: int) -> Sequence[str]:
        return ["8.8.8.8", address]

    network = LoopbackNetwork(0)
    client = WebhookClient(WebhookPolicy(), resolver=inside, network=network)
    with pytest.raises(DeliveryFailed, match="may not go") as caught:
        await client.post(f"https://{NAME}/", BODY, HEADERS, TimeLimit(10))
    assert caught.value.code == "forbidden"
    with pytest.raises(BadRequest, match="not allowed"):
        await client.resolve_and_check(f"https://{NAME}/")
    assert network.asked == []
    await client.aclose()


async def test_name_is_resolved_and_checked_again_for_each_connection() -> None:
    answers = [["8.8.8.8"], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    network = LoopbackNetwork(0)
    client = WebhookClient(LOCAL, resolver=rebinding, network=network)
    await client.resolve_and_check(f"https://{NAME}/")
    with pytest.raises(DeliveryFailed, match="may not go"):
        await client.post(f"https://{NAME}/", BODY, HEADERS, TimeLimit(10))
    assert network.asked == []
    await client.aclose()


async def test_post_to_url_that_policy_forbids_fails_without_connecting() -> None:
    async with receiver() as it:
        client = WebhookClient(WebhookPolicy())
        with pytest.raises(DeliveryFailed, match="may not go") as caught:
            await client.post(f"http://127.0.0.1:{it.port}/", BODY, HEADERS, TimeLimit(10))
        assert caught.value.code == "forbidden"
        assert it.connections == 0
        await client.aclose()


async def test_localhost_is_resolved_and_posted_to_if_loopback_is_allowed() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        assert host == "localhost"
        return ["127.0.0.1"]

    async with receiver() as it:
        client = WebhookClient(LOCAL, resolver=resolve)
        url = f"http://localhost:{it.port}/"
        await client.resolve_and_check(url)
        assert (await client.post(url, BODY, HEADERS, TimeLimit(10))).status == 200
        await client.aclose()


@pytest.mark.parametrize("address", PUBLIC)
async def test_check_accepts_a_public_address_without_resolving_it(address: str) -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError(host)

    client = WebhookClient(WebhookPolicy(), resolver=never)
    await client.resolve_and_check(f"https://{f'[{address}]' if ':' in address else address}/")
    with pytest.raises(BadRequest):
        await client.resolve_and_check("https://127.0.0.1/")
    await client.aclose()


async def test_check_accepts_a_name_that_does_not_resolve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def gone(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("no such name")

    async def empty(host: str, port: int) -> Sequence[str]:
        return []

    async def stuck(host: str, port: int) -> Sequence[str]:
        await asyncio.get_running_loop().create_future()
        return []

    monkeypatch.setattr(client_module, "RESOLVE_SECONDS", 0.05)
    for resolver in (gone, empty, stuck):
        client = WebhookClient(WebhookPolicy(), resolver=resolver)
        await client.resolve_and_check(f"https://{NAME}/")
        with pytest.raises(DeliveryFailed, match=r"resolve|too long"):
            await client.post(f"https://{NAME}/", BODY, HEADERS, TimeLimit(0.1))
        await client.aclose()


# TLS


async def post_over_tls(
    server: ssl.SSLContext | None, trust: ssl.SSLContext | None, seconds: float = 10
) -> Reply:
    async with receiver(tls=server) as it:
        client = WebhookClient(
            WebhookPolicy(),
            resolver=resolve_to_public_address,
            ssl_context=trust,
            network=LoopbackNetwork(it.port),
        )
        try:
            return await client.post(f"https://{NAME}/", BODY, HEADERS, TimeLimit(seconds))
        finally:
            await client.aclose()


async def test_certificate_for_the_name_is_accepted(authority: Authority) -> None:
    assert (
        await post_over_tls(authority.server_context(NAME), authority.client_context())
    ).status == 200


async def test_certificate_for_another_name_or_the_address_is_refused(
    authority: Authority,
) -> None:
    for other in ("8.8.8.8", "127.0.0.1", "other.example.com", "localhost"):
        with pytest.raises(DeliveryFailed, match="certificate") as caught:
            await post_over_tls(authority.server_context(other), authority.client_context())
        assert caught.value.code == "unreachable"


async def test_expired_certificate_is_refused(authority: Authority) -> None:
    with pytest.raises(DeliveryFailed, match="certificate"):
        await post_over_tls(authority.server_context(NAME, days=-1), authority.client_context())


async def test_certificate_of_an_untrusted_authority_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    for trust in (None, Authority(tmp_path).client_context()):
        with pytest.raises(DeliveryFailed, match="certificate"):
            await post_over_tls(authority.server_context(NAME), trust)


async def test_receiver_without_tls_fails(authority: Authority) -> None:
    async with receiver(greeting=b"220 mail.example.com\r\n") as it:
        client = WebhookClient(
            WebhookPolicy(),
            resolver=resolve_to_public_address,
            ssl_context=authority.client_context(),
            network=LoopbackNetwork(it.port),
        )
        with pytest.raises(DeliveryFailed, match="TLS"):
            await client.post(f"https://{NAME}/", BODY, HEADERS, TimeLimit(10))
        await client.aclose()


async def test_time_limit_of_exchange_includes_tls_handshake(authority: Authority) -> None:
    with pytest.raises(DeliveryFailed) as caught:
        await post_over_tls(None, authority.client_context(), 0.2)
    assert caught.value.timed_out


async def test_size_limit_applies_over_tls(authority: Authority) -> None:
    answer = endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100)
    async with receiver(answer, tls=authority.server_context(NAME)) as it:
        client = WebhookClient(
            WebhookPolicy(),
            resolver=resolve_to_public_address,
            ssl_context=authority.client_context(),
            network=LoopbackNetwork(it.port),
        )
        with pytest.raises(DeliveryFailed, match="too large"):
            await client.post(f"https://{NAME}/", BODY, HEADERS, TimeLimit(60))
        await client.aclose()
