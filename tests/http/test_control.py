"""The routes below `__ds`: whose they are, what they take, and what they never tell."""

import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.control import MAX_CONTROL_BODY
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decide import Outcome
from durable_streams_server.protocol.limits import MAX_PATH_BYTES
from durable_streams_server.protocol.subscriptions.commands import MAX_ID_BYTES, SubscriptionCommand
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.subscriptions.client import WebhookClient
from durable_streams_server.subscriptions.tokens import TOKEN_LIFE
from tests.http.asgi_driver import Answer, request
from tests.protocol.subscriptions.world import HOOK, ROOT
from tests.streams.engines import ManualClock
from tests.subscriptions.services import PUBLIC, FakeClient, Post

CONTROL = f"{ROOT}/__ds"
S = f"{CONTROL}/subscriptions/s"
JSON = {"content-type": "application/json"}
PULL = {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake/pool"}
HOOKED = {"type": "webhook", "pattern": "events/*", "webhook": {"url": HOOK}}


class Site:
    """An application, and short ways to ask it."""

    def __init__(self, store: StreamStore | None = None, **options: Any) -> None:
        self.clock = ManualClock()
        self.app: DurableStreamsApp = create_app(store=store, clock=self.clock, **options)
        self.client = FakeClient()
        self.app.service._client = cast(WebhookClient, self.client)

    async def ask(
        self,
        method: str,
        url: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        **scope: Any,
    ) -> Answer:
        """Makes one request; a body goes as JSON."""
        sent = {} if body is None else dict(JSON)
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        raw = b"" if body is None else json.dumps(body).encode()
        return await request(self.app, method, url, {**sent, **(headers or {})}, raw, **scope)

    async def value(self, method: str, url: str, body: object = None, **rest: Any) -> Any:
        answer = await self.ask(method, url, body, **rest)
        assert answer.status in (200, 201), answer.body
        return json.loads(answer.body)

    async def news(self, name: str = "events/a") -> None:
        await self.ask("PUT", f"{ROOT}/{name}", headers=JSON)
        assert (await self.ask("POST", f"{ROOT}/{name}", 1)).status == 204

    async def claimed(self) -> Any:
        """Makes a pull-wake with news, and claims it."""
        await self.ask("PUT", S, PULL)
        await self.news()
        return await self.value("POST", f"{S}/claim", {"worker": "w"})


@pytest.fixture
async def site() -> Site:
    return Site(public_url=PUBLIC)


def ack(claim: Any, **more: Any) -> dict[str, Any]:
    return {"wake_id": claim["wake_id"], "generation": claim["generation"], **more}


def acks(claim: Any) -> list[dict[str, str]]:
    return [{"stream": s["path"], "offset": s["tail_offset"]} for s in claim["streams"]]


# -- lives ------------------------------------------------------------------


async def test_the_life_of_a_pull_wake(site: Site) -> None:
    made = await site.ask("PUT", S, PULL)
    assert (made.status, (await site.ask("PUT", S, PULL)).status) == (201, 200)
    assert made.headers["content-type"] == "application/json"
    assert made.headers["cache-control"] == "no-store"
    assert json.loads(made.body)["status"] == "active"
    conflict = await site.ask("PUT", S, {**PULL, "description": "d"})
    assert (conflict.status, conflict.error["code"]) == (409, "SUBSCRIPTION_EXISTS")
    empty = await site.ask("POST", f"{S}/claim", {"worker": "w"})
    assert (empty.status, empty.error["code"]) == (409, "NOTHING_TO_CLAIM")
    await site.news()
    claim = await site.value("POST", f"{S}/claim", {"worker": "w"})
    assert (claim["generation"], claim["lease_ttl_ms"]) == (1, 30_000)
    assert [stream["has_pending"] for stream in claim["streams"]] == [True]
    held = await site.ask("POST", f"{S}/claim", {"worker": "v"})
    assert held.status == 409
    assert held.error == {
        "code": "ALREADY_CLAIMED",
        "message": held.error["message"],
        "current_holder": "w",
        "generation": 1,
    }
    beat = await site.value("POST", f"{S}/ack", ack(claim), token=claim["token"])
    assert beat == {"ok": True, "next_wake": False}
    done = ack(claim, acks=acks(claim), done=True)
    assert (await site.value("POST", f"{S}/ack", done, token=claim["token"]))["ok"] is True
    again = await site.ask("POST", f"{S}/ack", done, token=claim["token"])
    assert (again.status, again.error["code"]) == (409, "FENCED")
    assert (await site.ask("DELETE", S)).status == 204
    gone = await site.ask("GET", S)
    assert (gone.status, gone.error["code"]) == (404, "SUBSCRIPTION_NOT_FOUND")


async def test_a_release_is_followed_by_another_wake(site: Site) -> None:
    claim = await site.claimed()
    answer = await site.ask("POST", f"{S}/release", ack(claim), token=claim["token"])
    assert (answer.status, answer.body) == (204, b"")
    again = await site.value("POST", f"{S}/claim", {"worker": "v"})
    assert again["generation"] == 2
    stale = await site.ask("POST", f"{S}/release", ack(claim), token=claim["token"])
    assert (stale.status, stale.error["code"]) == (409, "FENCED")


async def test_the_life_of_a_webhook(site: Site) -> None:
    made = await site.value("PUT", S, HOOKED)
    (key,) = (await site.value("GET", f"{CONTROL}/jwks.json"))["keys"]
    signing = {"alg": "ed25519", "kid": key["kid"], "jwks_url": f"{PUBLIC}{CONTROL}/jwks.json"}
    assert made["webhook"] == {"url": HOOK, "signing": signing}
    await site.news()
    post = await posted(site)
    token = post.document["callback_token"]
    answer = await site.value(
        "POST",
        f"{S}/callback",
        ack(post.document, acks=acks(post.document), done=True),
        token=token,
    )
    assert answer == {"ok": True, "next_wake": False}
    await site.app.stop()


async def posted(site: Site) -> Post:
    import asyncio

    async with asyncio.timeout(5):
        while not site.client.posts:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
    return site.client.posts[-1]


async def test_a_deleted_subscriptions_worker_is_refused(site: Site) -> None:
    claim = await site.claimed()
    await site.ask("DELETE", S)
    for action in ("ack", "callback", "release"):
        answer = await site.ask("POST", f"{S}/{action}", ack(claim), token=claim["token"])
        assert (answer.status, answer.error["code"]) == (404, "SUBSCRIPTION_NOT_FOUND")
    await site.ask("PUT", S, PULL)
    await site.news()
    await site.value("POST", f"{S}/claim", {"worker": "v"})
    for action in ("ack", "callback", "release"):
        answer = await site.ask("POST", f"{S}/{action}", ack(claim), token=claim["token"])
        assert (answer.status, answer.error["code"]) == (409, "FENCED")


# -- routes -----------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"{ROOT}/%5f%5fds/subscriptions/s",
        f"{ROOT}/__ds%2Fsubscriptions%2fs",
        f"{ROOT}/%5F_ds/subscription%73/%73",
        "/v1%2fstream/__ds/subscriptions/s",
    ],
)
async def test_routes_are_found_on_the_decoded_path(site: Site, url: str) -> None:
    assert (await site.ask("PUT", url, PULL)).status == 201
    assert (await site.ask("GET", S)).status == 200
    assert list(site.app.engine.store.paths()) == []


@pytest.mark.parametrize(
    "url",
    [
        f"{ROOT}//__ds/subscriptions/s",
        f"{ROOT}/__ds//subscriptions/s",
        f"{CONTROL}/subscriptions//s",
        f"{CONTROL}/subscriptions/s//claim",
        f"{CONTROL}/subscriptions/../s",
        f"{CONTROL}/subscriptions/%2e%2e",
        f"{CONTROL}/subscriptions/s/%2fstreams",
        f"{CONTROL}/subscriptions/%zz",
        f"{CONTROL}/subscriptions/%ff",
        f"{CONTROL}/subscriptions/a%00",
    ],
)
async def test_what_has_no_one_meaning_is_refused(site: Site, url: str) -> None:
    for method in ("PUT", "GET", "DELETE", "POST"):
        answer = await site.ask(method, url, PULL)
        assert (answer.status, answer.error["code"]) == (400, "INVALID_PATH")


@pytest.mark.parametrize(
    "url",
    [
        CONTROL,
        f"{CONTROL}/",
        f"{CONTROL}/jwks",
        f"{CONTROL}/jwks.json/",
        f"{CONTROL}/jwks.json/x",
        f"{CONTROL}/subscriptions",
        f"{CONTROL}/subscriptions/",
        f"{S}/",
        f"{S}/claims",
        f"{S}/claim/",
        f"{S}/claim/x",
        f"{S}/streams/",
        f"{S}/CLAIM",
        f"{CONTROL}/Subscriptions/s",
    ],
)
async def test_all_else_below_the_reserved_name_is_nothing(site: Site, url: str) -> None:
    await site.ask("PUT", S, PULL)
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        answer = await site.ask(method, url, PULL)
        assert answer.status == 404
        if method != "HEAD":
            assert answer.error["code"] == "RESERVED_PATH"


async def test_what_only_looks_reserved_is_a_stream(site: Site) -> None:
    for url in (f"{CONTROL}x/subscriptions/s", f"{ROOT}/a/__ds/subscriptions/s", "/__ds/x"):
        assert (await site.ask("PUT", url, headers=JSON)).status == 201


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        (f"{CONTROL}/jwks.json", "GET, HEAD, OPTIONS"),
        (S, "PUT, GET, DELETE, HEAD, OPTIONS"),
        (f"{S}/streams", "POST, OPTIONS"),
        (f"{S}/streams/a/b", "DELETE, OPTIONS"),
        (f"{S}/callback", "POST, OPTIONS"),
        (f"{S}/ack", "POST, OPTIONS"),
        (f"{S}/claim", "POST, OPTIONS"),
        (f"{S}/release", "POST, OPTIONS"),
    ],
)
async def test_other_methods_are_told_which_there_are(site: Site, url: str, allow: str) -> None:
    await site.ask("PUT", S, PULL)
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "QUERY"):
        if method in allow.split(", "):
            continue
        answer = await site.ask(method, url, PULL)
        assert (answer.status, answer.headers["allow"]) == (405, allow)


async def test_head_is_get_without_a_body(site: Site) -> None:
    await site.ask("PUT", S, PULL)
    for url in (S, f"{CONTROL}/jwks.json"):
        got, head = await site.ask("GET", url), await site.ask("HEAD", url)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
    assert (await site.ask("HEAD", f"{CONTROL}/subscriptions/no")).status == 404


async def test_a_mounted_application_has_its_routes_below_the_mount() -> None:
    site = Site(public_url=f"{PUBLIC}/x/")
    made = await site.value("PUT", f"/x{S}", HOOKED, root_path="/x")
    assert made["webhook"]["signing"]["jwks_url"] == f"{PUBLIC}/x{CONTROL}/jwks.json"


async def test_an_id_is_one_segment_of_any_characters(site: Site) -> None:
    for id_ in ("a%20b", "%C3%A9", "a:b@c", "streams", "__ds", "x" * MAX_ID_BYTES):
        url = f"{CONTROL}/subscriptions/{id_}"
        assert (await site.ask("PUT", url, PULL)).status == 201
        assert (await site.ask("GET", url)).status == 200
        claim = await site.ask("POST", f"{url}/claim", {"worker": "w"})
        assert claim.error["code"] == "NOTHING_TO_CLAIM"
    long = await site.ask("PUT", f"{CONTROL}/subscriptions/{'x' * (MAX_ID_BYTES + 1)}", PULL)
    assert (long.status, long.error["code"]) == (400, "INVALID_SUBSCRIPTION")


# -- bodies -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("PUT", S),
        ("POST", f"{S}/streams"),
        ("POST", f"{S}/claim"),
        ("POST", f"{S}/ack"),
        ("POST", f"{S}/callback"),
        ("POST", f"{S}/release"),
    ],
)
async def test_a_body_is_json_and_says_so(site: Site, method: str, url: str) -> None:
    claim = await site.claimed()
    bearer = {"authorization": f"Bearer {claim['token']}"}
    for declared, code in [
        (None, "MISSING_CONTENT_TYPE"),
        ("", "MISSING_CONTENT_TYPE"),
        ("text/plain", "INVALID_CONTENT_TYPE"),
        ("application/x-www-form-urlencoded", "INVALID_CONTENT_TYPE"),
        ("multipart/form-data; boundary=x", "INVALID_CONTENT_TYPE"),
        ("application/jsonx", "INVALID_CONTENT_TYPE"),
        ("json", "INVALID_CONTENT_TYPE"),
    ]:
        headers = {**bearer, **({} if declared is None else {"content-type": declared})}
        answer = await request(site.app, method, url, headers, json.dumps(PULL).encode())
        assert answer.status == 400
        assert answer.error["code"] == code or declared in ("", "json")
    for raw in (b"", b"{", b"[]", b"\xff"):
        answer = await request(site.app, method, url, {**JSON, **bearer}, raw)
        assert (answer.status, answer.error["code"]) == (400, "INVALID_SUBSCRIPTION")
    charset = {"content-type": "Application/JSON; charset=utf-8", **bearer}
    assert (await request(site.app, method, url, charset, b"{")).error["code"] == (
        "INVALID_SUBSCRIPTION"
    )


async def test_a_body_over_the_limit_is_refused(site: Site) -> None:
    body = {**PULL, "padding": "x" * MAX_CONTROL_BODY}
    answer = await site.ask("PUT", S, body)
    assert (answer.status, answer.error["code"]) == (413, "BODY_TOO_LARGE")
    assert (await site.ask("GET", S)).status == 404


# -- links ------------------------------------------------------------------


async def links(site: Site) -> dict[str, str]:
    shown = await site.value("GET", S)
    return {stream["path"]: stream["link_type"] for stream in shown["streams"]}


@pytest.mark.parametrize("spelling", ["events/x/y", "events%2Fx%2fy", "%65vents/x%2Fy"])
async def test_a_link_is_removed_by_its_path(site: Site, spelling: str) -> None:
    await site.ask("PUT", S, {**PULL, "pattern": "none"})
    added = await site.ask("POST", f"{S}/streams", {"streams": ["events/x/y", "events/x"]})
    assert (added.status, added.body) == (204, b"")
    assert set(await links(site)) == {"events/x/y", "events/x"}
    for _ in range(2):
        assert (await site.ask("DELETE", f"{S}/streams/{spelling}")).status == 204
        assert await links(site) == {"events/x": "explicit"}


async def test_a_link_by_name_hides_one_by_pattern(site: Site) -> None:
    await site.ask("PUT", S, PULL)
    await site.news()
    assert await links(site) == {"events/a": "glob"}
    await site.ask("POST", f"{S}/streams", {"streams": ["events/a"]})
    assert await links(site) == {"events/a": "explicit"}
    await site.ask("DELETE", f"{S}/streams/events/a")
    assert await links(site) == {"events/a": "glob"}


async def test_the_longest_link_of_the_longest_id_can_be_removed(site: Site) -> None:
    url = f"{CONTROL}/subscriptions/{'i' * MAX_ID_BYTES}"
    longest = "p" * (MAX_PATH_BYTES - len(ROOT) - 1)
    await site.ask("PUT", url, {**PULL, "pattern": "none"})
    assert (await site.ask("POST", f"{url}/streams", {"streams": [longest]})).status == 204
    assert (await site.ask("DELETE", f"{url}/streams/{longest}")).status == 204
    assert (await site.value("GET", url))["streams"] == []
    too_long = await site.ask("DELETE", f"{url}/streams/{longest}p")
    assert (too_long.status, too_long.error["code"]) == (400, "INVALID_PATH")
    stream = await site.ask("PUT", f"{ROOT}/{longest}p", headers=JSON)
    assert (stream.status, stream.error["code"]) == (400, "INVALID_PATH")


async def test_paths_below_the_reserved_name_cannot_be_linked(site: Site) -> None:
    await site.ask("PUT", S, PULL)
    for answer in (
        await site.ask("POST", f"{S}/streams", {"streams": ["__ds/x"]}),
        await site.ask("DELETE", f"{S}/streams/__ds/x"),
        await site.ask("DELETE", f"{S}/streams/%5f%5fds/x"),
    ):
        assert (answer.status, answer.error["code"]) == (400, "INVALID_PATH")


# -- tokens -----------------------------------------------------------------


@pytest.mark.parametrize("action", ["ack", "callback", "release"])
async def test_a_token_is_needed_and_must_be_the_right_one(site: Site, action: str) -> None:
    claim = await site.claimed()
    await site.ask("PUT", f"{CONTROL}/subscriptions/t", PULL)
    token = claim["token"]
    head, payload, signature = token.split(".")
    url = f"{S}/{action}"

    async def code(headers: Mapping[str, str], where: str = url) -> str:
        answer = await site.ask("POST", where, ack(claim), headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        return answer.error["code"]

    wrong: list[Mapping[str, str]] = [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": token},
        {"authorization": f"Basic {token}"},
        {"authorization": "Bearer garbage"},
        {"authorization": "Bearer \xff\xfe"},
        {"authorization": f"Bearer {token} {token}"},
        {"authorization": f"Bearer {head}.{payload}."},
        {"authorization": f"Bearer {payload}.{head}.{signature}"},
        {"authorization": f"Bearer {head}.{payload}.{signature[::-1]}"},
        {"authorization": "Bearer " + "x" * 10_000},
    ]
    assert {await code(headers) for headers in wrong} == {"INVALID_TOKEN"}
    other = f"{CONTROL}/subscriptions/t/{action}"
    assert await code({"authorization": f"Bearer {token}"}, other) == "INVALID_TOKEN"
    query = await site.ask("POST", f"{url}?token={token}&access_token={token}", ack(claim))
    assert query.status == 401
    site.clock.forward(TOKEN_LIFE)
    assert await code({"authorization": f"Bearer {token}"}) == "TOKEN_EXPIRED"


async def test_the_scheme_is_taken_in_any_case(site: Site) -> None:
    claim = await site.claimed()
    for scheme in ("bearer", "BEARER"):
        headers = {"authorization": f"{scheme} {claim['token']}"}
        assert (await site.ask("POST", f"{S}/ack", ack(claim), headers)).status == 200


async def test_a_token_of_an_earlier_wake_is_fenced(site: Site) -> None:
    first = await site.claimed()
    await site.ask("POST", f"{S}/release", ack(first), token=first["token"])
    second = await site.value("POST", f"{S}/claim", {"worker": "v"})
    answer = await site.ask("POST", f"{S}/ack", ack(second), token=first["token"])
    assert (answer.status, answer.error["code"]) == (409, "FENCED")
    answer = await site.ask("POST", f"{S}/ack", ack(first), token=second["token"])
    assert (answer.status, answer.error["code"]) == (409, "FENCED")


async def test_a_token_past_half_its_life_is_renewed_by_a_heartbeat(site: Site) -> None:
    await site.ask("PUT", S, {**PULL, "lease_ttl_ms": 600_000})
    await site.news()
    claim = await site.value("POST", f"{S}/claim", {"worker": "w"})
    token, renewed = claim["token"], []
    for _ in range(20):  # three hours and more
        site.clock.forward(590)
        answer = await site.value("POST", f"{S}/ack", ack(claim), token=token)
        if "token" in answer:
            token = answer["token"]
            renewed.append(token)
    assert len(set(renewed)) == 5
    site.clock.forward(TOKEN_LIFE / 2)
    for _ in range(2):
        answer = await site.ask("POST", f"{S}/ack", ack(claim, done=True), token=token)
        assert b"token" not in answer.body


# -- what is told to whom ---------------------------------------------------


async def test_every_answer_may_be_read_by_scripts() -> None:
    site = Site(public_url=PUBLIC, cors=True)
    claim = await site.claimed()
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
    claim = await site.claimed()
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


async def test_the_callback_url_is_the_public_one_whatever_a_client_says(site: Site) -> None:
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
    post = await posted(site)
    assert post.document["callback_url"] == f"{PUBLIC}{S}/callback"
    shown = await site.ask("GET", S, headers=evil)
    for body in (made.body, shown.body, post.body):
        assert b"evil" not in body
        assert b"gopher" not in body
    await site.app.stop()


async def test_without_a_public_url_there_are_no_webhooks() -> None:
    site = Site()
    answer = await site.ask("PUT", S, HOOKED, {"host": "h.example"})
    assert (answer.status, answer.error["code"]) == (400, "PUBLIC_URL_UNKNOWN")
    assert (await site.ask("GET", S)).status == 404
    assert (await site.ask("PUT", S, PULL)).status == 201


async def test_a_webhook_that_outlived_its_public_url_is_shown_without_one() -> None:
    first = Site(public_url=PUBLIC)
    await first.ask("PUT", S, HOOKED)
    first.app.service.public_url = None
    shown = await first.value("GET", S)
    assert shown["webhook"] == {"url": HOOK}


class Broken(StreamStore):
    """A store with a fault and a secret."""

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        if isinstance(command, SubscriptionCommand):
            raise RuntimeError("the password is hunter2")
        return super().execute(command, now)


async def test_a_fault_leaks_nothing(caplog: pytest.LogCaptureFixture) -> None:  # TRAPS 46
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


async def test_refusals_repeat_no_token_and_no_body(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    claim = await site.claimed()
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
