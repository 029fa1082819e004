"""Plain Python arguments are converted to the same commands as HTTP requests."""

from datetime import UTC, datetime
from typing import Any

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol import commands, offsets
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.media import Kind
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.streams.arguments import (
    AppendOptions,
    CreateOptions,
    append_options,
    create_command,
)
from tests.requests import create
from tests.streams.engines import Bench

PLAIN: dict[str, Any] = {
    "content_type": None,
    "seq": None,
    "producer_id": None,
    "producer_epoch": None,
    "producer_seq": None,
    "expected_offset": None,
    "close": False,
}
OFFSET = "0000000000000007_0000000000000003"


def test_append_options_without_arguments_are_one_shared_object() -> None:
    assert append_options(**PLAIN) is append_options(**PLAIN)


def test_append_options_are_parsed() -> None:
    given = PLAIN | {"seq": "é", "producer_id": "p", "producer_epoch": 1, "producer_seq": 0}
    found = append_options(**given | {"expected_offset": OFFSET, "close": True})
    assert found == AppendOptions(
        seq="é".encode(), stamp=Stamp(b"p", 1, 0), expected=offsets.parse(OFFSET), closes=True
    )


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ({"seq": ""}, "INVALID_SEQ"),
        ({"seq": "\ud800"}, "INVALID_SEQ"),
        ({"producer_id": "p"}, "INVALID_PRODUCER"),
        ({"producer_id": "\ud800"}, "INVALID_PRODUCER"),
        ({"expected_offset": "7"}, "INVALID_OFFSET"),
    ],
)
def test_malformed_append_option_is_refused(option: dict[str, Any], code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        append_options(**PLAIN | option)
    assert caught.value.code == code


@pytest.mark.parametrize("option", [{"close": 1}, {"seq": b"a"}, {"producer_epoch": True}])
def test_append_option_of_wrong_type_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(option))):
        append_options(**PLAIN | option)


def test_append_without_content_type_has_type_of_stream() -> None:
    bench = Bench()
    bench.do(create("/a", "application/json"))
    command = AppendOptions().command(bench.state(), b"[1, 2]")
    assert (command.body.wire, command.has_body, command.closes) == (b"1,2,", True, False)
    other = AppendOptions(content_type="text/plain").command(bench.state(), b"[1, 2]")
    assert other.body.wire == b"[1, 2]"


def test_append_without_data_is_refused_unless_it_closes_stream() -> None:
    bench = Bench()
    bench.do(create("/a"))
    assert not AppendOptions(closes=True).command(bench.state(), b"").has_body
    with pytest.raises(BadRequest) as caught:
        AppendOptions().command(bench.state(), b"")
    assert caught.value.code == "EMPTY_BODY"


def test_stream_created_without_content_type_is_binary() -> None:
    command = create_command("/a", None, CreateOptions(initial_data=b"[1]"))
    assert command.media is not None
    assert (command.media.kind, command.body.wire) == (Kind.BINARY, b"[1]")
    assert (command.lifetime, command.fork, command.closes) == (Lifetime(), None, False)


def test_fork_created_without_content_type_has_type_of_source() -> None:
    options = CreateOptions(forked_from="/b", fork_offset=OFFSET, fork_sub_offset=2)
    command = create_command("/a", None, options)
    assert command.media is None
    assert command.fork == commands.Fork("/b", offsets.parse(OFFSET), 2)


@pytest.mark.parametrize(("text", "offset"), [("-1", offsets.ZERO), ("now", None), (None, None)])
def test_fork_offset_may_name_start_or_tail(
    text: str | None, offset: offsets.Offset | None
) -> None:
    command = create_command("/a", None, CreateOptions(forked_from="/b", fork_offset=text))
    assert command.fork == commands.Fork("/b", offset, None)


def test_fork_offset_without_source_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        create_command("/a", None, CreateOptions(fork_offset=OFFSET))
    assert caught.value.code == "INVALID_FORK"


def test_deadline_without_time_zone_is_refused() -> None:
    deadline = datetime(2030, 1, 1, tzinfo=UTC)
    command = create_command("/a", None, CreateOptions(expires_at=deadline))
    assert command.lifetime.expires_at == int(deadline.timestamp()) * 1_000_000
    with pytest.raises(BadRequest):
        create_command("/a", None, CreateOptions(expires_at=deadline.replace(tzinfo=None)))


@pytest.mark.parametrize("number", [-(10**5000), -1, 10**5000], ids=["-vast", "-1", "vast"])
def test_huge_or_negative_ttl_is_refused(number: int) -> None:
    with pytest.raises(BadRequest) as caught:
        create_command("/a", None, CreateOptions(ttl_seconds=number))
    assert caught.value.code == "INVALID_TTL"
