"""Tests of parsing bodies into commands, and of digests, which are equal for equivalent configurations."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.subscriptions.commands import (
    MAX_ACKS,
    MAX_DESCRIPTION,
    MAX_ID_BYTES,
    MAX_LINKS,
    MAX_WORKER,
    Acknowledge,
    Claim,
    Grant,
    Link,
    Release,
    check_id,
    parse_ack,
    parse_acknowledge,
    parse_claim,
    parse_link,
    parse_release,
    parse_subscribe,
    stream_path,
)
from tests.protocol.subscriptions.world import HOOK, ROOT, A, B

GRANT = Grant("s", 1, 2)
OFFSET = f"{1:016d}_{84:016d}"
PULL = {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake/pool"}
HOOKED = {"type": "webhook", "pattern": "events/*", "webhook": {"url": HOOK}}


def acknowledge(raw: bytes) -> Acknowledge:
    """Returns the command that the route makes from a request body."""
    asked = parse_acknowledge(raw)
    acks = tuple(parse_ack(ack, ROOT) for ack in asked.acks)
    return Acknowledge(GRANT, asked.generation, asked.wake_id, acks, asked.done)


ACK = {"wake_id": "w", "generation": 2}


def body(fields: dict[str, Any]) -> bytes:
    """Returns fields as a JSON body."""
    return json.dumps(fields).encode()


def refusal(parse: Callable[[], object]) -> str:
    """Asserts that a parser refuses a body, and returns the code of the error."""
    with pytest.raises(BadRequest) as caught:
        parse()
    return caught.value.code


def digest(**fields: Any) -> bytes:
    """Returns the digest of a pull-wake with some fields replaced."""
    return parse_subscribe("s", body({**PULL, **fields}), ROOT).config.digest


# -- subscribe --------------------------------------------------------------


def test_subscribe_body_with_all_fields_is_parsed() -> None:
    fields = {**PULL, "streams": ["events/b", "events/a"], "lease_ttl_ms": 1000, "description": "d"}
    command = parse_subscribe("s", body(fields), ROOT)
    config = command.config
    assert command.id == "s"
    assert (config.kind, config.pattern, config.streams) == (
        "pull-wake",
        "events/*",
        ("events/a", "events/b"),
    )
    assert (config.webhook_url, config.wake_stream) == (None, "wake/pool")
    assert (config.lease_ttl, config.description) == (1000, "d")


def test_owner_comes_from_the_server_and_not_from_the_body() -> None:
    raw = body({**PULL, "owner": "token:other", "owner_limit": 99})
    command = parse_subscribe("s", raw, ROOT)
    assert (command.owner, command.owner_limit) == (None, None)
    command = parse_subscribe("s", raw, ROOT, "token:me", 5)
    assert (command.owner, command.owner_limit) == ("token:me", 5)


def test_omitted_fields_of_a_webhook_have_defaults() -> None:
    config = parse_subscribe("s", body(HOOKED), ROOT).config
    assert (config.webhook_url, config.wake_stream) == (HOOK, None)
    assert (config.streams, config.lease_ttl, config.description) == ((), 30_000, None)


def test_unknown_field_is_ignored() -> None:
    assert digest(colour="red") == digest()


def test_configuration_digest_ignores_order_and_repetition_of_streams() -> None:
    names = ["a", "b", "c/d"]
    expected = digest(streams=names)
    for order in itertools.permutations(names):
        assert digest(streams=[*order, order[0]]) == expected
    assert digest(streams=[]) == digest(streams=None) == digest() != expected


def test_configuration_digest_depends_on_every_field() -> None:
    others: list[dict[str, Any]] = [
        {},
        {"pattern": "events/**"},
        {"streams": ["a"]},
        {"streams": ["a"], "pattern": None},
        {"wake_stream": "wake/other"},
        {"lease_ttl_ms": 1000},
        {"description": ""},
        {"description": "d"},
        {"type": "webhook", "webhook": {"url": HOOK}, "wake_stream": None},
        {"type": "webhook", "webhook": {"url": HOOK + "/"}, "wake_stream": None},
    ]
    assert len({digest(**fields) for fields in others}) == len(others)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"{}",
        b"\xff\xfe",
        b'{"type":"\xff"}',
        b"[" * 100_000,
        b'{"type":' * 100_000,
    ],
)
def test_body_that_is_not_a_json_object_is_refused(raw: bytes) -> None:
    parsers: list[Callable[[], object]] = [
        lambda: parse_subscribe("s", raw, ROOT),
        lambda: parse_link("s", raw, ROOT),
        lambda: parse_claim("s", raw),
        lambda: acknowledge(raw),
        lambda: parse_release(GRANT, raw),
    ]
    for parse in parsers:
        assert refusal(parse) == "INVALID_SUBSCRIPTION"


@pytest.mark.parametrize(
    "fields",
    [
        {"type": None},
        {"type": "queue"},
        {"type": 1},
        {"pattern": None},
        {"pattern": 1},
        {"pattern": None, "streams": []},
        {"streams": "a"},
        {"streams": [1]},
        {"streams": [None]},
        {"streams": {"a": 1}},
        {"wake_stream": None},
        {"wake_stream": 1},
        {"webhook": {"url": HOOK}},
        {"type": "webhook"},
        {"type": "webhook", "webhook": {"url": HOOK}},
        {"type": "webhook", "wake_stream": None},
        {"type": "webhook", "wake_stream": None, "webhook": {}},
        {"type": "webhook", "wake_stream": None, "webhook": HOOK},
        {"type": "webhook", "wake_stream": None, "webhook": {"url": None}},
        {"lease_ttl_ms": 999},
        {"lease_ttl_ms": 600_001},
        {"lease_ttl_ms": -1},
        {"lease_ttl_ms": 0},
        {"lease_ttl_ms": 1000.5},
        {"lease_ttl_ms": "1000"},
        {"lease_ttl_ms": None},
        {"lease_ttl_ms": True},
        {"lease_ttl_ms": 10**30},
        {"description": 1},
        {"description": "d" * (MAX_DESCRIPTION + 1)},
        {"streams": ["wake/pool"]},
        {"streams": [f"{n}" for n in range(MAX_LINKS + 1)]},
    ],
)
def test_malformed_subscription_is_refused(fields: dict[str, Any]) -> None:
    raw = body({**PULL, **fields})
    assert refusal(lambda: parse_subscribe("s", raw, ROOT)) == "INVALID_SUBSCRIPTION"


@pytest.mark.parametrize(
    "fields",
    [
        {"lease_ttl_ms": 1000},
        {"lease_ttl_ms": 600_000},
        {"description": "d" * MAX_DESCRIPTION},
        {"streams": [f"{n}" for n in range(MAX_LINKS)]},
        {"pattern": None, "streams": ["a"]},
        {"pattern": "**"},
        {"streams": ["a"]},
    ],
)
def test_subscription_at_the_limits_is_accepted(fields: dict[str, Any]) -> None:
    parse_subscribe("s", body({**PULL, **fields}), ROOT)


@pytest.mark.parametrize("pattern", ["", "/a", "a//b", "a**", "a/../b", "a\0", "p" * 500])
def test_malformed_pattern_is_refused(pattern: str) -> None:
    raw = body({**PULL, "pattern": pattern})
    assert refusal(lambda: parse_subscribe("s", raw, ROOT)) == "INVALID_PATTERN"


BAD_PATHS = [
    "/a",
    "a//b",
    ".",
    "..",
    "a/../b",
    "a/./b",
    "a\0b",
    "a\nb",
    "__ds",
    "__ds/x",
    "p" * 500,
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_invalid_path_is_refused_in_every_field(path: str) -> None:
    parsers: list[Callable[[], object]] = [
        lambda: parse_subscribe("s", body({**PULL, "streams": ["a", path]}), ROOT),
        lambda: parse_subscribe("s", body({**PULL, "wake_stream": path}), ROOT),
        lambda: parse_link("s", body({"streams": [path]}), ROOT),
        lambda: acknowledge(body({**ACK, "acks": [{"stream": path, "offset": OFFSET}]})),
    ]
    for parse in parsers:
        assert refusal(parse) == "INVALID_PATH"


@pytest.mark.parametrize("root", ["", "/x", ROOT])
def test_reserved_segment_is_refused_only_as_first_segment(root: str) -> None:
    assert stream_path("a/__ds", root) == f"{root}/a/__ds"
    assert stream_path("__dsx/a", root) == f"{root}/__dsx/a"
    assert refusal(lambda: stream_path("__ds/a", root)) == "INVALID_PATH"


def test_paths_in_bodies_are_not_percent_decoded() -> None:
    assert stream_path("a%2fb c", ROOT) == f"{ROOT}/a%2fb c"
    assert stream_path("%5f%5fds/x", ROOT) == f"{ROOT}/%5f%5fds/x"


def test_empty_relative_path_names_the_stream_at_the_root() -> None:
    # The pattern `**` links this stream, so a worker must be able to acknowledge it.
    assert stream_path("", ROOT) == f"{ROOT}/"
    assert refusal(lambda: stream_path("", "")) == "INVALID_PATH"


@pytest.mark.parametrize("id_", ["s", "sub-1", "a b", "é", "__ds", "...", "x" * MAX_ID_BYTES])
def test_subscription_id_of_one_segment_is_accepted(id_: str) -> None:
    assert check_id(id_) == id_


@pytest.mark.parametrize("id_", ["", ".", "..", "a/b", "/", "x" * (MAX_ID_BYTES + 1), "é" * 129])
def test_subscription_id_that_is_not_one_segment_is_refused(id_: str) -> None:
    assert refusal(lambda: check_id(id_)) == "INVALID_SUBSCRIPTION"
    assert refusal(lambda: parse_subscribe(id_, body(PULL), ROOT)) == "INVALID_SUBSCRIPTION"


# -- links, claims, acks, releases ------------------------------------------


def test_links_are_sorted_without_duplicates() -> None:
    raw = body({"streams": ["events/b", "events/a", "events/b"]})
    assert parse_link("s", raw, ROOT) == Link("s", (A, B))
    assert parse_link("s", body({"streams": []}), ROOT) == Link("s", ())


@pytest.mark.parametrize(
    "fields", [{}, {"streams": None}, {"streams": "a"}, {"streams": ["a"] * (MAX_LINKS + 1)}]
)
def test_malformed_links_are_refused(fields: dict[str, Any]) -> None:
    assert refusal(lambda: parse_link("s", body(fields), ROOT)) == "INVALID_SUBSCRIPTION"


def test_claim_is_parsed_with_its_worker() -> None:
    name = "w" * MAX_WORKER
    assert parse_claim("s", body({"worker": name})) == Claim("s", name)


@pytest.mark.parametrize("worker", ["", None, 1, "w" * (MAX_WORKER + 1)])
def test_claim_without_a_valid_worker_is_refused(worker: object) -> None:
    assert refusal(lambda: parse_claim("s", body({"worker": worker}))) == "INVALID_SUBSCRIPTION"


def test_ack_request_is_parsed() -> None:
    acks = [{"stream": "events/a", "offset": OFFSET}]
    command = acknowledge(body({**ACK, "acks": acks, "done": True}))
    assert command == Acknowledge(GRANT, 2, "w", ((A, Offset(1, 84)),), True)
    assert acknowledge(body(ACK)) == Acknowledge(GRANT, 2, "w")
    assert parse_release(GRANT, body(ACK)) == Release(GRANT, 2, "w")


@pytest.mark.parametrize(
    "fields",
    [
        {"wake_id": None},
        {"wake_id": 1},
        {"generation": None},
        {"generation": "2"},
        {"generation": 2.5},
        {"done": 1},
        {"done": "true"},
        {"acks": None},
        {"acks": {}},
        {"acks": [{}]},
        {"acks": [{"stream": "a"}]},
        {"acks": [{"stream": "a", "offset": 1}]},
        {"acks": [{"offset": OFFSET}]},
        {"acks": [{"stream": "a", "offset": OFFSET}] * (MAX_ACKS + 1)},
    ],
)
def test_malformed_ack_is_refused(fields: dict[str, Any]) -> None:
    raw = body({**ACK, **fields})
    assert refusal(lambda: acknowledge(raw)) == "INVALID_SUBSCRIPTION"


@pytest.mark.parametrize("offset", ["", "-1", "now", "1_2", OFFSET + "0", OFFSET.replace("_", "-")])
def test_ack_with_a_sentinel_or_malformed_offset_is_refused(offset: str) -> None:
    raw = body({**ACK, "acks": [{"stream": "a", "offset": offset}]})
    assert refusal(lambda: acknowledge(raw)) == "INVALID_OFFSET"


def test_error_message_does_not_quote_the_body() -> None:
    secret = "hunter2"
    raws = [
        body({**PULL, "type": secret}),
        body({**PULL, "type": f"{secret}' - at {secret}\n"}),
        body({**PULL, "lease_ttl_ms": secret}),
        body({**PULL, "description": secret * 1000}),
        body({**PULL, "pattern": f"{secret}//"}),
        body({**PULL, "streams": [f"{secret}//{secret}"]}),
        f'{{"type": {secret}'.encode(),
    ]
    for raw in raws:
        with pytest.raises(BadRequest) as caught:
            parse_subscribe("s", raw, ROOT)
        assert secret not in caught.value.message


def test_commands_are_immutable_values() -> None:
    command = parse_subscribe("s", body(PULL), ROOT)
    assert command == parse_subscribe("s", body(PULL), ROOT)
    with pytest.raises(AttributeError):
        command.id = "t"  # type: ignore[misc]  # assigns to a frozen struct on purpose
    assert isinstance(command, msgspec.Struct)
