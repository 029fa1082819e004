"""Subscriptions over HTTP: from creation to deletion, and their links."""

import json

import pytest

from durable_streams_server.protocol.limits import MAX_PATH_BYTES
from durable_streams_server.protocol.subscriptions.commands import MAX_ID_BYTES
from tests.http.control_site import (
    CONTROL,
    HOOK,
    HOOKED,
    JSON,
    PUBLIC,
    PULL,
    ROOT,
    S,
    Site,
    ack,
    acks,
)


@pytest.fixture
async def site() -> Site:
    return Site(public_url=PUBLIC)


async def test_pull_wake_subscription_is_created_claimed_acknowledged_and_deleted(
    site: Site,
) -> None:
    made = await site.ask("PUT", S, PULL)
    assert (made.status, (await site.ask("PUT", S, PULL)).status) == (201, 200)
    assert made.headers["content-type"] == "application/json"
    assert made.headers["cache-control"] == "no-store"
    assert json.loads(made.body)["status"] == "active"
    conflict = await site.ask("PUT", S, {**PULL, "description": "d"})
    assert (conflict.status, conflict.error["code"]) == (409, "SUBSCRIPTION_EXISTS")
    empty = await site.ask("POST", f"{S}/claim", {"worker": "w"})
    assert (empty.status, empty.error["code"]) == (409, "NOTHING_TO_CLAIM")
    await site.append_event()
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


async def test_release_ends_a_claim_and_allows_the_next_claim(site: Site) -> None:
    claim = await site.claim()
    answer = await site.ask("POST", f"{S}/release", ack(claim), token=claim["token"])
    assert (answer.status, answer.body) == (204, b"")
    again = await site.value("POST", f"{S}/claim", {"worker": "v"})
    assert again["generation"] == 2
    stale = await site.ask("POST", f"{S}/release", ack(claim), token=claim["token"])
    assert (stale.status, stale.error["code"]) == (409, "FENCED")


async def test_webhook_subscription_is_created_delivered_and_acknowledged(site: Site) -> None:
    made = await site.value("PUT", S, HOOKED)
    (key,) = (await site.value("GET", f"{CONTROL}/jwks.json"))["keys"]
    signing = {"alg": "ed25519", "kid": key["kid"], "jwks_url": f"{PUBLIC}{CONTROL}/jwks.json"}
    assert made["webhook"] == {"url": HOOK, "signing": signing}
    await site.append_event()
    delivery = json.loads(await site.receiver.delivery())
    token = delivery["callback_token"]
    answer = await site.value(
        "POST",
        f"{S}/callback",
        ack(delivery, acks=acks(delivery), done=True),
        token=token,
    )
    assert answer == {"ok": True, "next_wake": False}
    await site.app.stop()


async def test_worker_of_deleted_subscription_is_refused(site: Site) -> None:
    claim = await site.claim()
    await site.ask("DELETE", S)
    for action in ("ack", "callback", "release"):
        answer = await site.ask("POST", f"{S}/{action}", ack(claim), token=claim["token"])
        assert (answer.status, answer.error["code"]) == (404, "SUBSCRIPTION_NOT_FOUND")
    await site.ask("PUT", S, PULL)
    await site.append_event()
    await site.value("POST", f"{S}/claim", {"worker": "v"})
    for action in ("ack", "callback", "release"):
        answer = await site.ask("POST", f"{S}/{action}", ack(claim), token=claim["token"])
        assert (answer.status, answer.error["code"]) == (409, "FENCED")


# -- links ------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["events/x/y", "events%2Fx%2fy", "%65vents/x%2Fy"])
async def test_delete_unlinks_the_stream_at_the_decoded_path(site: Site, spelling: str) -> None:
    await site.ask("PUT", S, {**PULL, "pattern": "none"})
    added = await site.ask("POST", f"{S}/streams", {"streams": ["events/x/y", "events/x"]})
    assert (added.status, added.body) == (204, b"")
    assert set(await site.link_types()) == {"events/x/y", "events/x"}
    for _ in range(2):
        assert (await site.ask("DELETE", f"{S}/streams/{spelling}")).status == 204
        assert await site.link_types() == {"events/x": "explicit"}


async def test_stream_linked_explicitly_and_by_pattern_is_shown_as_explicit(site: Site) -> None:
    await site.ask("PUT", S, PULL)
    await site.append_event()
    assert await site.link_types() == {"events/a": "glob"}
    await site.ask("POST", f"{S}/streams", {"streams": ["events/a"]})
    assert await site.link_types() == {"events/a": "explicit"}
    await site.ask("DELETE", f"{S}/streams/events/a")
    assert await site.link_types() == {"events/a": "glob"}


async def test_longest_link_of_the_longest_subscription_id_can_be_deleted(site: Site) -> None:
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
