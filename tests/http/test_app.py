"""`create_app`: settings out of range are refused, and valid ones take effect."""

from pathlib import Path

import pytest

from durable_streams_server import (
    CursorOptions,
    DurableStreamsApp,
    FileBackedStreamStore,
    StreamLifecycleEvent,
    StreamStore,
    create_app,
    create_registry_hooks,
)
from durable_streams_server.protocol.decisions.quota import Quota
from tests.http.asgi_driver import request

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


@pytest.mark.parametrize(
    "settings",
    [
        {"page_size": 1023},
        {"page_size": 1024**3 + 1},
        {"max_body": 0},
        {"max_body": 257 * 1024**2},
        {"max_body": 11, "max_in_flight": 10},
        {"long_poll_timeout": 0},
        {"sse_max_age": 0},
        {"body_timeout": 0},
        {"body_timeout": float("inf")},
        {"body_timeout": float("nan")},
        {"cors": ["nonsense"]},
        {"max_streams": 0},
        {"max_stream_bytes": 0},
        {"max_total_bytes": -1},
        {"hooks": [*create_registry_hooks(), *create_registry_hooks("b")]},
    ],
)
def test_setting_out_of_range_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        create_app(**settings)  # type: ignore[arg-type]  # each value has the type of its setting


async def test_create_app_applies_its_settings() -> None:
    events: list[StreamLifecycleEvent] = []
    app = create_app(
        hooks=[events.append, *create_registry_hooks("all", stream_root="/s")],
        stream_root="/s",
        page_size=1024,
        long_poll_timeout=0.01,
        cursor_options=CursorOptions(interval_seconds=10**12),
    )
    assert isinstance(app, DurableStreamsApp)
    await request(app, "PUT", "/s/a", TEXT, b"x" * 1024)
    await request(app, "POST", "/s/a", TEXT, b"x" * 1024)
    assert [event.path for event in events] == ["/s/a", "/s/all"]
    assert len((await request(app, "GET", "/s/a")).body) == 1024
    assert (await request(app, "PUT", "/s/__ds/x", TEXT)).status == 404
    assert (await request(app, "PUT", "/v1/stream/__ds", TEXT)).status == 201
    poll = await request(app, "GET", "/s/a?offset=now&live=long-poll")
    assert (poll.status, poll.headers["stream-cursor"]) == (204, "0")
    assert b'"key":"a"' in (await request(app, "GET", "/s/all")).body
    refused = await request(app, "DELETE", "/s/all")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_limits_of_streams_and_bytes_are_refused_with_their_own_codes() -> None:
    app = create_app(max_streams=2, max_stream_bytes=4, max_total_bytes=6)

    async def refused(method: str, url: str, body: bytes = b"") -> tuple[int, str, str | None]:
        answer = await request(app, method, url, TEXT, body)
        return answer.status, answer.error["code"], answer.headers.get("retry-after")

    assert (await request(app, "PUT", A, TEXT, b"1234")).status == 201
    assert await refused("POST", A, b"x") == (413, "STREAM_TOO_LARGE", None)
    b = "/v1/stream/b"
    assert await refused("PUT", b, b"123") == (507, "STORE_FULL", "5")
    assert (await request(app, "PUT", b, TEXT, b"12")).status == 201
    assert await refused("POST", b, b"x") == (507, "STORE_FULL", "5")
    assert await refused("PUT", "/v1/stream/c") == (429, "TOO_MANY_STREAMS", "5")
    assert (await request(app, "PUT", b, TEXT)).status == 200
    assert (await request(app, "POST", b, {"stream-closed": "true"})).status == 204
    assert (await request(app, "DELETE", A)).status == 204
    assert (await request(app, "PUT", "/v1/stream/c", TEXT, b"1234")).status == 201


async def test_application_keeps_the_limits_of_its_store_unless_it_is_given_others() -> None:
    store = StreamStore(max_streams=5, max_total_bytes=60)
    create_app(store=store)
    assert store.quota == Quota(5, None, 60)
    create_app(store=store, max_streams=7, max_stream_bytes=8)
    assert store.quota == Quota(7, 8, 60)


async def test_two_applications_share_nothing() -> None:
    first, second = create_app(), create_app()
    await request(first, "PUT", A, TEXT)
    assert (await request(second, "HEAD", A)).status == 404


async def test_body_larger_than_a_segment_of_the_store_returns_413(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path, segment_size=1 << 20) as store:
        app = create_app(store=store)
        await request(app, "PUT", A, TEXT)
        refused = await request(app, "POST", A, TEXT, b"x" * (1 << 20))
        assert refused.status == 413
        assert b"BODY_TOO_LARGE" in refused.body
        assert (await request(app, "POST", A, TEXT, b"x" * (1 << 19))).status == 204
        await app.stop()


async def test_one_body_may_use_the_whole_receive_budget() -> None:
    app = create_app(max_body=1000, max_in_flight=1000)
    await request(app, "PUT", A, TEXT)
    assert (await request(app, "POST", A, TEXT, b"x" * 1000)).status == 204
