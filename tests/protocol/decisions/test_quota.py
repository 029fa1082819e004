"""Tests of the limits that all streams of a store share."""

import pytest

from durable_streams_server.errors import StorageFull, StreamError, TooManyRequests
from durable_streams_server.protocol.commands import Command, Delete, Expire
from durable_streams_server.protocol.decisions.quota import Quota
from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.state import Appended, Change, Created, Removed, Touched
from durable_streams_server.protocol.subscriptions.commands import Tend
from tests.requests import NOW, append, create

CREATED = Created("/a", 1, parse_media_type("text/plain"), FOREVER, NOW)
REMOVED = Removed("/a", 1)


def appended(size: int) -> Appended:
    """Returns an append of the given number of bytes."""
    return Appended("/a", 1, 0, b"x" * size, False, NOW)


def refusal(
    quota: Quota, command: Command, *changes: Change, streams: int = 0, stored: int = 0
) -> str | None:
    """Returns the code of the refusal of a record, or None if the record is admitted."""
    try:
        quota.admit(command, changes, streams, stored)
    except StreamError as error:
        return error.code
    return None


@pytest.mark.parametrize(("streams", "code"), [(1, None), (2, None), (3, "TOO_MANY_STREAMS")])
def test_create_is_refused_only_if_it_exceeds_the_number_of_streams(
    streams: int, code: str | None
) -> None:
    quota = Quota(max_streams=3)
    assert refusal(quota, create("/a"), CREATED, streams=streams) == code
    assert refusal(quota, append("/a", b"x"), appended(1), streams=streams) is None


def test_refusals_say_when_to_retry() -> None:
    quota = Quota(max_streams=1, max_total_bytes=1)
    with pytest.raises(TooManyRequests) as many:
        quota.admit(create("/a"), (CREATED,), 1, 0)
    with pytest.raises(StorageFull) as full:
        quota.admit(append("/a", b"x"), (appended(1),), 1, 1)
    for refused in (many, full):
        assert refused.value.headers == ((b"retry-after", b"5"),)


def test_create_in_place_of_an_expired_stream_adds_no_stream() -> None:
    quota = Quota(max_streams=3)
    assert refusal(quota, create("/a"), REMOVED, CREATED, streams=3) is None
    assert refusal(quota, create("/a"), REMOVED, CREATED, streams=9) is None
    registry = (REMOVED, CREATED, CREATED, appended(5))
    assert refusal(quota, create("/a"), *registry, streams=3) == "TOO_MANY_STREAMS"


@pytest.mark.parametrize(("size", "code"), [(9, None), (10, None), (11, "STORE_FULL")])
def test_data_is_refused_only_if_it_exceeds_the_bytes_of_all_streams(
    size: int, code: str | None
) -> None:
    quota = Quota(max_total_bytes=100)
    assert refusal(quota, append("/a", b"x"), appended(size), stored=90) == code
    assert refusal(quota, append("/a", b"x"), appended(size - 1), appended(1), stored=90) == code
    assert refusal(quota, create("/a", body=b"x"), CREATED, appended(size), stored=90) == code
    assert refusal(quota, Tend("s"), appended(size), stored=90) == code


def test_store_beyond_a_lowered_limit_refuses_only_what_adds_to_it() -> None:
    quota = Quota(max_streams=3, max_total_bytes=100)
    assert refusal(quota, create("/a"), CREATED, streams=2, stored=500) is None
    assert refusal(quota, append("/a", b"x"), appended(1), streams=9, stored=50) is None
    assert refusal(quota, append("/a", b"x"), appended(1), streams=9, stored=500) == "STORE_FULL"
    assert refusal(quota, Tend("s"), Touched("/a", 1, NOW), streams=9, stored=500) is None


@pytest.mark.parametrize("command", [Delete("/a"), Expire("/a", 1), append("/a", closes=True)])
def test_deletes_expiry_and_closes_are_never_refused(command: Command) -> None:
    quota = Quota(max_streams=1, max_total_bytes=1)
    assert refusal(quota, command, CREATED, appended(90), streams=9, stored=900) is None


def test_only_shared_limits_need_admit() -> None:
    assert not Quota().is_shared
    assert not Quota(max_stream_bytes=1).is_shared
    assert Quota(max_streams=1).is_shared
    assert Quota(max_total_bytes=1).is_shared
    assert refusal(Quota(max_stream_bytes=1), create("/a"), CREATED, appended(9)) is None


@pytest.mark.parametrize("name", Quota.__struct_fields__)
def test_limit_below_one_is_refused(name: str) -> None:
    Quota(**{name: 1})
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            Quota(**{name: limit})
