"""`HostCheck`: which hosts a request may name, so that no page reaches the server by rebinding its own name."""

import asyncio
import socket

import httpx
import pytest

from durable_streams_server import AccessControl, DurableStreamTestServer, create_app
from durable_streams_server.errors import UnknownHost
from durable_streams_server.http.gate.hosts import HostCheck, HostNames, add_names_of_machine
from durable_streams_server.http.request import Request
from tests.http.asgi_driver import request
from tests.http.lanes import Caller


def asking(host: str | None) -> Request:
    """Returns a request that names a host."""
    headers = {} if host is None else {b"host": host.encode("latin-1")}
    return Request("GET", b"/v1/stream/a", b"", headers)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "127.0.0.1",
        "127.0.0.1:4437",
        "192.0.2.7:80",
        "[::1]",
        "[::1]:4437",
        "localhost",
        "LocalHost:4437",
        "localhost.",
        "app.localhost:4437",
        "streams.example",
        "Streams.Example:443",
        "streams.example.:443",
        "box",
    ],
)
def test_addresses_names_of_this_machine_and_listed_names_are_allowed(host: str | None) -> None:
    names = HostNames(["streams.example"])
    check = HostCheck(names)
    names.add("BOX")
    for _ in range(2):  # the second time from the values that are known
        check(asking(host))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4437",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "a.streams.example",
        "%6cocalhost",
        "streams.example..",
    ],
)
def test_other_names_are_refused_with_421(host: str) -> None:
    check = HostCheck(HostNames(["streams.example"]))
    for _ in range(2):
        with pytest.raises(UnknownHost) as caught:
            check(asking(host))
        assert (caught.value.status, caught.value.code) == (421, "UNKNOWN_HOST")
        assert host not in caught.value.message


def test_known_values_of_host_are_bounded() -> None:
    check = HostCheck(HostNames())
    for number in range(1000):
        check(asking(f"{number}.localhost"))
    assert len(check._values) <= 256


@pytest.mark.parametrize("name", ["", "http://a", "a:80", "a b", "é", "[::1]"])
def test_allowed_host_must_be_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a host"):
        HostNames([name])


def test_names_of_machine_are_added_without_waiting_for_dns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added: list[str] = []
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    monkeypatch.setattr(socket, "getfqdn", lambda: "box.example")
    add_names_of_machine(added.append).join()
    assert added == ["box", "box.example"]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"])
async def test_refusal_comes_before_anything_is_done(method: str, native: bool) -> None:
    app = create_app(access=AccessControl(allowed_hosts=["h"]))
    app.begin()
    caller = Caller(app, native)
    url, text = "/v1/stream/a", {"content-type": "text/plain"}
    host = {"host": "evil.example"}
    if native:  # the driver of the native lane always names `h`; the absolute URL counts instead
        host, url = {}, f"http://evil.example{url}"
    refused = await caller(
        method, url, {**text, **host}, b"x" if method in ("PUT", "POST") else b""
    )
    assert refused.status == 421
    assert refused.headers["cache-control"] == "no-store"
    assert (await request(app, "GET", "/v1/stream/a")).status == 404


async def test_large_body_for_another_host_is_not_received() -> None:
    ask = Caller(create_app(access=AccessControl(allowed_hosts=[])), native=False)
    refused = await ask.without_body("PUT", "/v1/stream/a", {"host": "evil.example"}, 1_000_000)
    assert refused.status == 421


async def test_mounted_application_answers_to_every_host() -> None:
    refused = await request(create_app(), "GET", "/v1/stream/a", {"host": "evil.example"})
    assert refused.status == 404


async def test_server_on_loopback_answers_only_to_names_of_this_machine() -> None:
    hosts = ("evil.example", "localhost", "streams.example", socket.gethostname())
    async with (
        DurableStreamTestServer(access=AccessControl(allowed_hosts=["streams.example"])) as server,
        httpx.AsyncClient(base_url=server.base_url) as http,
    ):
        statuses = [
            (await http.get("/v1/stream/a", headers={"host": host})).status_code for host in hosts
        ]
    assert statuses == [421, 404, 404, 404]


async def test_server_with_guard_leaves_hosts_to_guard() -> None:
    async def allow(*_: object) -> bool:
        await asyncio.sleep(0)
        return True

    async with (
        DurableStreamTestServer(guard=allow) as server,
        httpx.AsyncClient(base_url=server.base_url) as http,
    ):
        answer = await http.get("/v1/stream/a", headers={"host": "evil.example"})
    assert answer.status_code == 404
