"""The control routes below `__ds`: which paths and methods they have, and which paths are streams."""

import pytest

from durable_streams_server.protocol.subscriptions.commands import MAX_ID_BYTES
from tests.http.control_site import CONTROL, HOOKED, JSON, PUBLIC, PULL, ROOT, S, Site


@pytest.fixture
async def site() -> Site:
    return Site(public_url=PUBLIC)


@pytest.mark.parametrize(
    "url",
    [
        f"{ROOT}/%5f%5fds/subscriptions/s",
        f"{ROOT}/__ds%2Fsubscriptions%2fs",
        f"{ROOT}/%5F_ds/subscription%73/%73",
        "/v1%2fstream/__ds/subscriptions/s",
    ],
)
async def test_routes_match_the_decoded_path(site: Site, url: str) -> None:
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
async def test_ambiguous_path_is_refused(site: Site, url: str) -> None:
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
async def test_unknown_path_below_the_reserved_name_returns_404(site: Site, url: str) -> None:
    await site.ask("PUT", S, PULL)
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        answer = await site.ask(method, url, PULL)
        assert answer.status == 404
        if method != "HEAD":
            assert answer.error["code"] == "RESERVED_PATH"


async def test_path_that_only_resembles_a_reserved_one_is_a_stream(site: Site) -> None:
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
async def test_unknown_method_returns_405_with_the_allowed_methods(
    site: Site, url: str, allow: str
) -> None:
    await site.ask("PUT", S, PULL)
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "QUERY"):
        if method in allow.split(", "):
            continue
        answer = await site.ask(method, url, PULL)
        assert (answer.status, answer.headers["allow"]) == (405, allow)


async def test_head_is_answered_like_get_without_a_body(site: Site) -> None:
    await site.ask("PUT", S, PULL)
    for url in (S, f"{CONTROL}/jwks.json"):
        got, head = await site.ask("GET", url), await site.ask("HEAD", url)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
    assert (await site.ask("HEAD", f"{CONTROL}/subscriptions/no")).status == 404


async def test_routes_of_a_mounted_application_are_below_the_mount() -> None:
    site = Site(public_url=f"{PUBLIC}/x/")
    made = await site.value("PUT", f"/x{S}", HOOKED, root_path="/x")
    assert made["webhook"]["signing"]["jwks_url"] == f"{PUBLIC}/x{CONTROL}/jwks.json"


async def test_subscription_id_is_one_segment_of_any_characters(site: Site) -> None:
    for id_ in ("a%20b", "%C3%A9", "a:b@c", "streams", "__ds", "x" * MAX_ID_BYTES):
        url = f"{CONTROL}/subscriptions/{id_}"
        assert (await site.ask("PUT", url, PULL)).status == 201
        assert (await site.ask("GET", url)).status == 200
        claim = await site.ask("POST", f"{url}/claim", {"worker": "w"})
        assert claim.error["code"] == "NOTHING_TO_CLAIM"
    long = await site.ask("PUT", f"{CONTROL}/subscriptions/{'x' * (MAX_ID_BYTES + 1)}", PULL)
    assert (long.status, long.error["code"]) == (400, "INVALID_SUBSCRIPTION")
