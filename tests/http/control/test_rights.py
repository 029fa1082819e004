"""What a token allows on the streams of a subscription, and what its holder learns of the subscriptions of others."""

import json
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server.errors import Forbidden
from durable_streams_server.http.control.rights import SubscriptionRights
from durable_streams_server.http.gate.permit import OPEN, Permit
from durable_streams_server.protocol.permissions import Claims
from durable_streams_server.protocol.subscriptions.changes import Config
from tests.http.gate.tokens import EVERYTHING, Guarded, bearer
from tests.http.lanes import Caller

CONTROL = "/v1/stream/__ds"
S = f"{CONTROL}/subscriptions/s"
JSON = {"content-type": "application/json"}
PULL: dict[str, Any] = {"type": "pull-wake", "wake_stream": "wakes/w", "lease_ttl_ms": 60_000}


@pytest.fixture
def site(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path, native=False)


async def subscribe(call: Caller, token: str, url: str = S, **changes: Any) -> tuple[int, Any]:
    """Puts a subscription with a token. Returns the status and the document."""
    body = json.dumps({**PULL, **changes}).encode()
    answer = await call("PUT", url, {**JSON, **bearer(token)}, body)
    return answer.status, json.loads(answer.body)


async def ready(site: Guarded) -> Caller:
    """Creates the streams of the tests, and returns a caller."""
    call = site.caller()
    await site.app.streams.create("/v1/stream/wakes/w", "application/json")
    for name in ("chat/a", "chat/b", "secret"):
        await site.app.streams.create(f"/v1/stream/{name}", "text/plain")
    return call


BOTH = "subscribe,read:/v1/stream/chat/*"
WAKES = "append:/v1/stream/wakes/*"


@pytest.mark.parametrize(
    ("grants", "config", "status"),
    [
        ([BOTH, WAKES], {"pattern": "chat/*"}, 201),
        ([BOTH, WAKES], {"pattern": "chat/a*"}, 201),
        ([BOTH, WAKES], {"streams": ["chat/a", "chat/b"]}, 201),
        ([BOTH, WAKES], {"pattern": "chat/**"}, 403),
        ([BOTH, WAKES], {"pattern": "**"}, 403),
        ([BOTH, WAKES], {"pattern": "c*/a"}, 403),
        ([BOTH, WAKES], {"streams": ["chat/a", "secret"]}, 403),
        ([BOTH, WAKES], {"pattern": "chat/*", "streams": ["secret"]}, 403),
        ([BOTH], {"pattern": "chat/*"}, 403),
        (["subscribe:/**", WAKES], {"pattern": "chat/*"}, 403),
        (["subscribe:/**", "read:/v1/stream/chat/a", WAKES], {"streams": ["chat/a"]}, 201),
        (["read,append:/**"], {"pattern": "chat/*"}, 403),
    ],
)
async def test_subscription_needs_subscribe_and_read_on_each_stream_that_it_matches(
    grants: list[str], config: dict[str, Any], status: int, site: Guarded
) -> None:
    call = await ready(site)
    found, _ = await subscribe(call, site.token(*grants), **config)
    assert found == status
    shown = await call("GET", S, bearer(site.token(EVERYTHING)))
    assert shown.status == (200 if status == 201 else 404)


@pytest.mark.parametrize("streams", [["chat/a"], ["chat/a", "secret"]])
async def test_link_needs_subscribe_and_read_on_added_streams(
    streams: list[str], site: Guarded
) -> None:
    call = await ready(site)
    token = site.token(BOTH, WAKES)
    assert (await subscribe(call, token, pattern="chat/*"))[0] == 201
    body = json.dumps({"streams": streams}).encode()
    linked = await call("POST", f"{S}/streams", {**JSON, **bearer(token)}, body)
    assert linked.status == (403 if "secret" in streams else 204)


ON_SUBSCRIPTION = [
    ("GET", "", b""),
    ("DELETE", "", b""),
    ("POST", "/streams", b'{"streams": ["chat/a"]}'),
    ("DELETE", "/streams/chat/a", b""),
    ("POST", "/claim", b'{"worker": "w"}'),
]


@pytest.mark.parametrize(
    "config",
    [{"pattern": "**"}, {"pattern": "chat/*", "streams": ["secret"]}, {"streams": ["secret"]}],
)
@pytest.mark.parametrize("request_", ON_SUBSCRIPTION, ids=lambda each: f"{each[0]}{each[1]}")
async def test_subscription_of_others_looks_like_one_that_does_not_exist(
    request_: tuple[str, str, bytes], config: dict[str, Any], site: Guarded
) -> None:
    method, below, body = request_
    call = await ready(site)
    everything, token = site.token(EVERYTHING), site.token(BOTH, WAKES)
    assert (await subscribe(call, everything, **config))[0] == 201
    answers = []
    for id_ in ("s", "missing"):
        url = f"{CONTROL}/subscriptions/{id_}{below}"
        answer = await call(method, url, {**JSON, **bearer(token)}, body)
        pairs = [pair for pair in answer.pairs if pair[0] != b"x-request-id"]
        answers.append((answer.status, pairs, answer.body))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert (await call("GET", S, bearer(everything))).status == 200


async def test_repeated_put_does_not_show_streams_that_others_have_linked(site: Guarded) -> None:
    call = await ready(site)
    everything, token = site.token(EVERYTHING), site.token(BOTH, WAKES)
    assert (await subscribe(call, token, pattern="chat/*"))[0] == 201
    linked = await call(
        "POST", f"{S}/streams", {**JSON, **bearer(everything)}, b'{"streams": ["secret"]}'
    )
    assert linked.status == 204
    status, document = await subscribe(call, token, pattern="chat/*")
    assert status == 404
    assert "secret" not in json.dumps(document)


@pytest.mark.parametrize("open_", [True, False])
async def test_server_without_access_control_allows_everything(open_: bool, site: Guarded) -> None:
    permit = OPEN if open_ else Permit(claims=Claims("", ()))
    await ready(site)
    rights = SubscriptionRights(site.app.service, "/v1/stream")
    config = Config("pull-wake", None, ("chat/a",), None, None, 60_000, None)
    checked = rights.check_config(permit, config)
    if open_:
        checked.result()
    else:
        with pytest.raises(Forbidden):
            checked.result()
