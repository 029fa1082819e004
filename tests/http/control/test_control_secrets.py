"""What control responses disclose: CORS and cache headers, URLs, and errors without secrets."""

import json

import pytest

from durable_streams_server import StreamStore
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.protocol.subscriptions.commands import SubscriptionCommand
from durable_streams_server.storage.ticket import Ticket
from tests.http.control_site import CONTROL, HOOK, HOOKED, JSON, PUBLIC, PULL, ROOT, S, Site, ack


@pytest.fixture
async def site() -> Site:
    return Site(public_url=PUBLIC)


async def test_browser_scripts_of_any_origin_may_read_every_control_response() -> None:
    site = Site(public_url=PUBLIC, cors=True)
    claim = await site.claim()
    answers = [
        await site.ask("GET", S),
        await site.ask("GET", f"{CONTROL}/jwks.json"),
        await site.ask("POST", f"{S}/ack", ack(claim), token=claim["token"]),
        await site.ask("POST", f"{S}/ack", ack(claim)),
        await site.ask("GET", f"{CONTROL}/nothing"),
        await site.ask("PATCH", S),
    ]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["x-content-type-options"] == "nosniff"
    preflight = await site.ask("OPTIONS", f"{S}/claim", headers={"origin": "https://a.example"})
    assert preflight.status == 204
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert "DELETE" in preflight.headers["access-control-allow-methods"]


async def test_only_the_public_keys_may_be_cached(site: Site) -> None:
    claim = await site.claim()
    keys = await site.ask("GET", f"{CONTROL}/jwks.json")
    assert keys.headers["cache-control"] == "public, max-age=300"
    assert keys.headers["content-type"] == "application/jwk-set+json"
    (key,) = json.loads(keys.body)["keys"]
    assert set(key) == {"kty", "crv", "kid", "use", "alg", "x"}
    for answer in (
        await site.ask("GET", S),
        await site.ask("PUT", S, PULL),
        await site.ask("POST", f"{S}/ack", ack(claim), token=claim["token"]),
        await site.ask("POST", f"{S}/release", ack(claim), token=claim["token"]),
        await site.ask("GET", f"{CONTROL}/subscriptions/no"),
    ):
        assert answer.headers["cache-control"] == "no-store"


async def test_callback_url_ignores_the_headers_of_clients(site: Site) -> None:
    evil = {
        "host": "evil.example",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "gopher",
        "x-forwarded-prefix": "/evil",
        "forwarded": "host=evil.example",
        "origin": "https://evil.example",
    }
    made = await site.ask("PUT", S, HOOKED, evil, scheme="gopher")
    await site.ask("PUT", f"{ROOT}/events/a", headers={**JSON, **evil})
    await site.ask("POST", f"{ROOT}/events/a", 1, evil)
    delivery = await site.receiver.delivery()
    assert json.loads(delivery)["callback_url"] == f"{PUBLIC}{S}/callback"
    shown = await site.ask("GET", S, headers=evil)
    for body in (made.body, shown.body, delivery):
        assert b"evil" not in body
        assert b"gopher" not in body
    await site.app.stop()


async def test_webhook_without_a_public_url_is_refused() -> None:
    site = Site()
    answer = await site.ask("PUT", S, HOOKED, {"host": "h.example"})
    assert (answer.status, answer.error["code"]) == (400, "PUBLIC_URL_UNKNOWN")
    assert (await site.ask("GET", S)).status == 404
    assert (await site.ask("PUT", S, PULL)).status == 201


async def test_webhook_document_omits_signing_keys_without_a_public_url() -> None:
    first = Site(public_url=PUBLIC)
    await first.ask("PUT", S, HOOKED)
    first.app.service.public_url = None
    shown = await first.value("GET", S)
    assert shown["webhook"] == {"url": HOOK}


class Broken(StreamStore):
    """A store that fails with a secret in its error."""

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        if isinstance(command, SubscriptionCommand):
            raise RuntimeError("the password is hunter2")
        return super().execute(command, now)


async def test_internal_error_leaks_nothing(caplog: pytest.LogCaptureFixture) -> None:  # TRAPS 46
    site = Site(Broken())
    for method, url, body in [
        ("PUT", S, PULL),
        ("GET", S, None),
        ("DELETE", S, None),
        ("POST", f"{S}/claim", {"worker": "w"}),
        ("POST", f"{S}/streams", {"streams": ["a"]}),
        ("GET", f"{CONTROL}/jwks.json", None),
    ]:
        answer = await site.ask(method, url, body)
        assert (answer.status, answer.error["message"]) == (500, "the server failed")
    assert "hunter2" in caplog.text


async def test_error_responses_quote_neither_token_nor_body(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    claim = await site.claim()
    token = claim["token"]
    answers = [
        await site.ask("POST", f"{S}/ack", ack(claim), token=token + "hunter2"),
        await site.ask("POST", f"{S}/ack", {"wake_id": "hunter2", "generation": 1}, token=token),
        await site.ask("POST", f"{S}/ack", {"wake_id": 1, "generation": "hunter2"}, token=token),
        await site.ask("PUT", S, {**PULL, "type": "hunter2"}),
        await site.ask("PUT", S, {**PULL, "description": "hunter2"}),
    ]
    for answer in answers:
        assert answer.status in (400, 401, 409)
        assert b"hunter2" not in answer.body
        assert token.encode() not in answer.body
    assert token not in caplog.text
    assert "hunter2" not in caplog.text
