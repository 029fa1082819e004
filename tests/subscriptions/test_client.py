"""The webhook client: what receivers do to it, and what it makes of that."""

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.subscriptions import client as client_module
from durable_streams_server.subscriptions import patience as patience_module
from durable_streams_server.subscriptions import pools as pools_module
from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.answers import MAX_REPLY_BODY
from durable_streams_server.subscriptions.client import Reply, WebhookClient
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.patience import Patience

from .places import PUBLIC
from .receivers import OK, Answer, Authority, Detour, receiver

LOCAL = WebhookPolicy(allow_loopback=True)
BODY = b'{ "generation": 7,\n"x":"\xc3\xa9" }'
HEADERS = [(b"content-type", b"application/json"), (b"webhook-signature", b"t=1,kid=a")]
NAME = "hooks.example.com"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def public(host: str, port: int) -> Sequence[str]:
    return ["8.8.8.8"]


async def exchange(answer: Answer | bytes, seconds: float = 10) -> Reply:
    """Posts one webhook to a receiver that answers so."""
    async with receiver(answer) as it:
        client = WebhookClient(LOCAL)
        try:
            return await client.post(
                f"http://127.0.0.1:{it.port}/", BODY, HEADERS, Patience(seconds)
            )
        finally:
            await client.aclose()


async def failure(answer: Answer | bytes, seconds: float = 10) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await exchange(answer, seconds)
    return caught.value


# What is sent


async def test_the_exact_bytes_are_sent() -> None:
    async with receiver() as it:
        client = WebhookClient(LOCAL)
        reply = await client.post(
            f"http://127.0.0.1:{it.port}/a%20b/../c?d=", BODY, HEADERS, Patience(10)
        )
        assert reply == Reply(200, b'{"done":true}')
        ((head, body),) = it.requests
        assert body == BODY
        lines = head.decode().lower().split("\r\n")
        assert lines[0] == "post /a%20b/../c?d= http/1.1"
        assert sorted(lines[1:-2]) == [
            "accept-encoding: identity",
            f"content-length: {len(BODY)}",
            "content-type: application/json",
            f"host: 127.0.0.1:{it.port}",
            "user-agent: durable-streams-server",
            "webhook-signature: t=1,kid=a",
        ]
        await client.aclose()


async def test_a_connection_is_used_again() -> None:
    async with receiver() as it:
        client = WebhookClient(LOCAL)
        for _ in range(3):
            await client.post(f"http://127.0.0.1:{it.port}/", BODY, HEADERS, Patience(10))
        assert (it.connections, len(it.requests)) == (1, 3)
        await client.aclose()


async def test_each_answer_on_a_connection_has_its_own_limit() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MAX_REPLY_BODY
    async with receiver(answer + b"x" * MAX_REPLY_BODY) as it:
        client = WebhookClient(LOCAL)
        for _ in range(3):
            await client.post(f"http://127.0.0.1:{it.port}/", BODY, HEADERS, Patience(10))
        assert it.connections == 1
        await client.aclose()


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await exchange(OK)).status == 200


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Hooks.Example.com/", b"hooks.example.com"),
        ("https://hooks.example.com:443/", b"hooks.example.com"),
        ("https://hooks.example.com:8443/", b"hooks.example.com:8443"),
        ("https://[2606:4700::1111]/", b"[2606:4700::1111]"),
        ("https://[2606:4700:0::1111]:8443/", b"[2606:4700::1111]:8443"),
    ],
)
async def test_the_host_header_names_the_url_s_host(
    url: str, host: bytes, authority: Authority
) -> None:
    async with receiver(tls=authority.server(NAME, "2606:4700::1111")) as it:
        client = WebhookClient(
            WebhookPolicy(),
            resolver=public,
            ssl_context=authority.client(),
            network=Detour(it.port),
        )
        await client.post(url, BODY, HEADERS, Patience(10))
        assert b"\r\nhost: " + host + b"\r\n" in it.requests[0][0]
        await client.aclose()


# What comes back


@pytest.mark.parametrize("status", [200, 201, 204, 299, 400, 404, 410, 429, 500, 503, 599])
async def test_any_other_status_is_an_answer(status: int) -> None:
    body = b"" if status == 204 else b"x"
    reply = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
    assert await exchange(reply) == Reply(status, body)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
async def test_a_redirect_is_a_failure_and_not_followed(status: int) -> None:
    async with receiver() as other:
        location = b"http://127.0.0.1:%d/" % other.port
        error = await failure(
            b"HTTP/1.1 %d X\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location)
        )
        assert "redirects" in error.reason
        assert error.code == "redirect"
        assert not error.timed_out
        assert other.connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_every_framing_is_understood(answer: bytes) -> None:
    assert await exchange(answer) == Reply(200, b"{}")


async def test_a_body_may_end_with_the_connection() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n{}")
        writer.close()

    assert await exchange(answer) == Reply(200, b"{}")


@pytest.mark.parametrize("chunked", [False, True])
async def test_compressed_answer_is_decoded(chunked: bool) -> None:
    body = gzip.compress(b'\xef\xbb\xbf{"done":true}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
    if chunked:
        answer = b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
            head,
            len(body),
            body,
        )
    else:
        answer = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    assert await exchange(answer) == Reply(200, b'{"done":true}')


async def test_answer_in_an_unknown_encoding_is_a_failure() -> None:
    error = await failure(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}")
    assert "encoding" in error.reason
    assert error.code == "invalid_answer"
    assert not error.timed_out


@pytest.mark.parametrize("coding", [b"gzip", b"br"])
async def test_error_status_is_an_answer_whatever_its_body_is(coding: bytes) -> None:
    head = b"HTTP/1.1 500 X\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    assert await exchange(head % (coding, 2) + b"no") == Reply(500, b"no")
    large = b"x" * (MAX_REPLY_BODY + 1)
    assert await exchange(head % (coding, len(large)) + large) == Reply(500, b"")
    assert await exchange(endless(head % (coding, 10**9), b"x" * 1000)) == Reply(500, b"")


async def test_a_body_of_64_kib_is_taken_and_one_byte_more_is_not() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    whole = b"x" * MAX_REPLY_BODY
    assert (await exchange(head % len(whole) + whole)).body == whole
    error = await failure(head % (len(whole) + 1) + whole + b"x")
    assert "too large" in error.reason
    assert error.code == "invalid_answer"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00" * 100,
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
async def test_an_answer_that_is_not_whole_and_valid_http_is_a_failure(answer: bytes) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    error = await failure(close)
    assert "valid HTTP" in error.reason
    assert error.code == "invalid_answer"
    assert not error.timed_out


async def test_another_protocol_is_a_failure() -> None:
    answer = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    error = await failure(answer)
    assert error.code == "invalid_answer"
    assert not error.timed_out


async def test_a_reset_is_a_failure() -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    error = await failure(reset)
    assert "connection" in error.reason
    assert error.code == "unreachable"
    assert not error.timed_out


async def test_nobody_at_the_port_is_a_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = WebhookClient(LOCAL)
        with pytest.raises(DeliveryFailed, match="connection") as caught:
            await client.post(
                f"http://127.0.0.1:{taken.getsockname()[1]}/", BODY, HEADERS, Patience(10)
            )
        assert caught.value.code == "unreachable"
        await client.aclose()


# What takes too long, or too much


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def drip_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def drip_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [hang, drip_head, drip_body])
async def test_an_answer_that_takes_too_long_is_a_failure(answer: Answer) -> None:
    error = await failure(answer, 0.2)
    assert error.code == "no_answer"
    assert error.timed_out


async def answer_slowly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends the head after 0.3 seconds and the body 0.3 seconds later."""
    await asyncio.sleep(0.3)
    writer.write(OK[:-13])
    await asyncio.sleep(0.3)
    writer.write(OK[-13:])


async def test_receiver_that_sends_no_head_is_cut_off_long_before_its_lease_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience_module, "FIRST_BYTE_SECONDS", 0.1)
    for answer in (hang, drip_head, answer_slowly):
        async with asyncio.timeout(10):
            error = await failure(answer, 600)
        assert error.timed_out


async def test_interim_answers_are_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    async def only_interim(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.02)

    monkeypatch.setattr(patience_module, "FIRST_BYTE_SECONDS", 0.2)
    async with asyncio.timeout(10):
        assert (await failure(only_interim, 600)).timed_out


async def test_after_the_head_the_body_may_take_the_whole_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience_module, "FIRST_BYTE_SECONDS", 0.45)
    assert (await exchange(answer_slowly, 60)).status == 200
    error = await failure(answer_slowly, 0.5)
    assert error.timed_out


async def test_heartbeats_extend_an_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "FIRST_BYTE_SECONDS", 0.1)
    asked = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await answer_slowly(reader, writer)

    async with receiver(answer) as it:
        client = WebhookClient(LOCAL)
        patience = Patience(0.2)
        url = f"http://127.0.0.1:{it.port}/"
        post = asyncio.create_task(client.post(url, BODY, HEADERS, patience))
        await asked.wait()
        patience.extend(0.4)
        await asyncio.sleep(0.3)
        patience.extend(10)
        assert await post == Reply(200, b'{"done":true}')
        await client.aclose()


async def test_last_heartbeat_limits_the_exchange() -> None:
    async with receiver(hang) as it:
        client = WebhookClient(LOCAL)
        patience = Patience(0.1)
        patience.extend(0.3)
        with pytest.raises(DeliveryFailed) as caught:
            await client.post(f"http://127.0.0.1:{it.port}/", BODY, HEADERS, patience)
        assert caught.value.timed_out
        await client.aclose()


def endless(begin: bytes, more: bytes) -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            writer.write(more)
            await writer.drain()

    return answer


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"3e8\r\n" + b"x" * 1000 + b"\r\n",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 100),
    ],
)
async def test_an_answer_without_an_end_is_a_failure_long_before_its_time(
    begin: bytes, more: bytes
) -> None:
    error = await failure(endless(begin, more), 60)
    assert error.code == "invalid_answer"
    assert not error.timed_out


async def test_after_a_failure_the_client_still_works() -> None:
    async with receiver(hang) as bad, receiver() as good:
        client = WebhookClient(LOCAL)
        for _ in range(3):
            with pytest.raises(DeliveryFailed):
                await client.post(f"http://127.0.0.1:{bad.port}/", BODY, HEADERS, Patience(0.05))
        reply = await client.post(f"http://127.0.0.1:{good.port}/", BODY, HEADERS, Patience(10))
        assert reply.status == 200
        await client.aclose()


async def test_waiting_for_a_connection_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_module, "MAX_CONNECTIONS", 1)
    asked = asyncio.Event()

    async def ask_and_hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await hang(reader, writer)

    async with receiver(ask_and_hang) as it:
        client = WebhookClient(LOCAL)
        url = f"http://127.0.0.1:{it.port}/"
        first = asyncio.create_task(client.post(url, BODY, HEADERS, Patience(60)))
        await asked.wait()
        posts = [client.post(url, BODY, HEADERS, Patience(0.2)) for _ in range(2)]
        errors = await asyncio.gather(*posts, return_exceptions=True)
        assert [isinstance(error, DeliveryFailed) and error.timed_out for error in errors] == [
            True,
            True,
        ]
        assert it.connections == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await client.aclose()


async def test_whoever_no_longer_waits_leaves_nothing_open() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def ask_and_hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        assert await reader.read() == b""
        gone.set()

    async with receiver(ask_and_hang) as it:
        client = WebhookClient(LOCAL)
        url = f"http://127.0.0.1:{it.port}/"
        post = asyncio.create_task(client.post(url, BODY, HEADERS, Patience(60)))
        await asked.wait()
        post.cancel()
        with pytest.raises(asyncio.CancelledError):
            await post
        async with asyncio.timeout(5):
            await gone.wait()
        await client.aclose()


# Where it goes


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "64:ff9b::a00:1"])
async def test_a_name_that_leads_inside_is_not_connected_to(address: str) -> None:
    async def inside(host: str, port: int) -> Sequence[str]:
        return ["8.8.8.8", address]

    detour = Detour(0)
    client = WebhookClient(WebhookPolicy(), resolver=inside, network=detour)
    with pytest.raises(DeliveryFailed, match="may not go") as caught:
        await client.post(f"https://{NAME}/", BODY, HEADERS, Patience(10))
    assert caught.value.code == "forbidden"
    with pytest.raises(BadRequest, match="not allowed"):
        await client.resolve_and_check(f"https://{NAME}/")
    assert detour.asked == []
    await client.aclose()


async def test_the_answer_of_the_check_does_not_count_for_the_connection() -> None:
    answers = [["8.8.8.8"], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    detour = Detour(0)
    client = WebhookClient(LOCAL, resolver=rebinding, network=detour)
    await client.resolve_and_check(f"https://{NAME}/")
    with pytest.raises(DeliveryFailed, match="may not go"):
        await client.post(f"https://{NAME}/", BODY, HEADERS, Patience(10))
    assert detour.asked == []
    await client.aclose()


async def test_a_url_that_the_policy_no_longer_takes_is_not_posted_to() -> None:
    async with receiver() as it:
        client = WebhookClient(WebhookPolicy())
        with pytest.raises(DeliveryFailed, match="may not go") as caught:
            await client.post(f"http://127.0.0.1:{it.port}/", BODY, HEADERS, Patience(10))
        assert caught.value.code == "forbidden"
        assert it.connections == 0
        await client.aclose()


async def test_localhost_is_resolved_and_taken_when_allowed() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        assert host == "localhost"
        return ["127.0.0.1"]

    async with receiver() as it:
        client = WebhookClient(LOCAL, resolver=resolve)
        url = f"http://localhost:{it.port}/"
        await client.resolve_and_check(url)
        assert (await client.post(url, BODY, HEADERS, Patience(10))).status == 200
        await client.aclose()


@pytest.mark.parametrize("address", PUBLIC)
async def test_a_public_address_passes_the_check_without_being_resolved(address: str) -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError(host)

    client = WebhookClient(WebhookPolicy(), resolver=never)
    await client.resolve_and_check(f"https://{f'[{address}]' if ':' in address else address}/")
    with pytest.raises(BadRequest):
        await client.resolve_and_check("https://127.0.0.1/")
    await client.aclose()


async def test_a_name_that_does_not_resolve_passes_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def gone(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("no such name")

    async def empty(host: str, port: int) -> Sequence[str]:
        return []

    async def stuck(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(client_module, "RESOLVE_SECONDS", 0.05)
    for resolver in (gone, empty, stuck):
        client = WebhookClient(WebhookPolicy(), resolver=resolver)
        await client.resolve_and_check(f"https://{NAME}/")
        with pytest.raises(DeliveryFailed, match=r"resolve|too long"):
            await client.post(f"https://{NAME}/", BODY, HEADERS, Patience(0.1))
        await client.aclose()


# TLS


async def over_tls(
    server: ssl.SSLContext | None, trust: ssl.SSLContext | None, seconds: float = 10
) -> Reply:
    async with receiver(tls=server) as it:
        client = WebhookClient(
            WebhookPolicy(), resolver=public, ssl_context=trust, network=Detour(it.port)
        )
        try:
            return await client.post(f"https://{NAME}/", BODY, HEADERS, Patience(seconds))
        finally:
            await client.aclose()


async def test_a_certificate_for_the_name_is_taken(authority: Authority) -> None:
    assert (await over_tls(authority.server(NAME), authority.client())).status == 200


async def test_the_certificate_must_be_for_the_name_and_not_for_the_address(
    authority: Authority,
) -> None:
    for other in ("8.8.8.8", "127.0.0.1", "other.example.com", "localhost"):
        with pytest.raises(DeliveryFailed, match="certificate") as caught:
            await over_tls(authority.server(other), authority.client())
        assert caught.value.code == "unreachable"


async def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    with pytest.raises(DeliveryFailed, match="certificate"):
        await over_tls(authority.server(NAME, days=-1), authority.client())


async def test_an_authority_that_is_not_trusted_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    for trust in (None, Authority(tmp_path).client()):
        with pytest.raises(DeliveryFailed, match="certificate"):
            await over_tls(authority.server(NAME), trust)


async def test_a_receiver_that_speaks_no_tls_is_a_failure(authority: Authority) -> None:
    async with receiver(greeting=b"220 mail.example.com\r\n") as it:
        client = WebhookClient(
            WebhookPolicy(),
            resolver=public,
            ssl_context=authority.client(),
            network=Detour(it.port),
        )
        with pytest.raises(DeliveryFailed, match="TLS"):
            await client.post(f"https://{NAME}/", BODY, HEADERS, Patience(10))
        await client.aclose()


async def test_a_handshake_that_hangs_takes_no_longer_than_the_rest(authority: Authority) -> None:
    with pytest.raises(DeliveryFailed) as caught:
        await over_tls(None, authority.client(), 0.2)
    assert caught.value.timed_out


async def test_a_limit_holds_over_tls_too(authority: Authority) -> None:
    answer = endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100)
    async with receiver(answer, tls=authority.server(NAME)) as it:
        client = WebhookClient(
            WebhookPolicy(),
            resolver=public,
            ssl_context=authority.client(),
            network=Detour(it.port),
        )
        with pytest.raises(DeliveryFailed, match="too large"):
            await client.post(f"https://{NAME}/", BODY, HEADERS, Patience(60))
        await client.aclose()
