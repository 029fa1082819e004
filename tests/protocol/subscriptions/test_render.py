"""Tests of the JSON documents for clients, workers and webhooks."""

import pytest

from durable_streams_server.protocol.subscriptions import render
from durable_streams_server.protocol.subscriptions.changes import Config, LinkedStream, Wake
from durable_streams_server.protocol.subscriptions.views import View
from tests.protocol.subscriptions.world import HOOK, ROOT, A, B

AT = 1_778_284_800_000_000
FIRST, SECOND = f"{1:016d}_{42:016d}", f"{1:016d}_{84:016d}"
STREAMS = (LinkedStream(A, False, FIRST, SECOND), LinkedStream(B, True, FIRST, FIRST))
PULL = Config("pull-wake", "events/*", ("events/b",), None, "wake/pool", 30_000, "event processor")
HOOKED = Config("webhook", None, ("events/b",), HOOK, None, 5_000, None)


def view(config: Config, wake: Wake | None = None, created_at: int = AT) -> View:
    """Returns the view of a subscription with two streams."""
    return View("sub-1", 5, config, created_at, None, 7, wake, STREAMS)


def relative(path: str) -> str:
    """Returns a path relative to the stream root."""
    return path.removeprefix(f"{ROOT}/")


def test_document_of_a_pull_wake_has_its_configuration() -> None:
    shown = render.subscription(view(PULL), STREAMS, relative, None)
    assert shown == {  # PROTOCOL 6.3
        "id": "sub-1",
        "subscription_id": "sub-1",
        "type": "pull-wake",
        "pattern": "events/*",
        "streams": [
            {"path": "events/a", "link_type": "glob", "acked_offset": FIRST},
            {"path": "events/b", "link_type": "explicit", "acked_offset": FIRST},
        ],
        "webhook": None,
        "wake_stream": "wake/pool",
        "lease_ttl_ms": 30_000,
        "created_at": "2026-05-09T00:00:00.000Z",
        "status": "active",
        "description": "event processor",
    }


def test_document_of_a_webhook_describes_its_signatures() -> None:
    signing = {"alg": "ed25519", "kid": "k", "jwks_url": "https://s.example/jwks.json"}
    shown = render.subscription(view(HOOKED), (), relative, signing)
    assert shown["webhook"] == {"url": HOOK, "signing": signing}
    assert (shown["wake_stream"], shown["pattern"], shown["streams"]) == (None, None, [])


def test_document_of_a_webhook_omits_signing_if_it_is_unknown() -> None:
    assert render.subscription(view(HOOKED), (), relative, None)["webhook"] == {"url": HOOK}


def test_document_shows_that_its_list_of_streams_is_truncated() -> None:
    assert "streams_truncated" not in render.subscription(view(PULL), (), relative, None)
    assert render.subscription(view(PULL), (), relative, None, True)["streams_truncated"] is True


def test_wake_document_has_acked_offset_and_tail_of_each_stream() -> None:
    assert render.wake(view(PULL, Wake("w_1")), relative) == {  # PROTOCOL 7.1, 7.2
        "wake_id": "w_1",
        "generation": 7,
        "streams": [
            {
                "path": "events/a",
                "link_type": "glob",
                "acked_offset": FIRST,
                "tail_offset": SECOND,
                "has_pending": True,
            },
            {
                "path": "events/b",
                "link_type": "explicit",
                "acked_offset": FIRST,
                "tail_offset": FIRST,
                "has_pending": False,
            },
        ],
    }


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (AT, "2026-05-09T00:00:00.000Z"),
        (AT + 1_000, "2026-05-09T00:00:00.001Z"),
        (AT + 999, "2026-05-09T00:00:00.000Z"),
        (AT + 999_999, "2026-05-09T00:00:00.999Z"),
        (AT - 1, "2026-05-08T23:59:59.999Z"),
    ],
)
def test_times_are_truncated_to_milliseconds(microseconds: int, text: str) -> None:
    shown = render.subscription(view(PULL, created_at=microseconds), (), relative, None)
    assert shown["created_at"] == text
