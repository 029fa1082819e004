"""Fork offsets and sub-offsets are resolved to a byte position of the source, or refused."""

import pytest

from durable_streams_server.errors import BadRequest, Conflict
from durable_streams_server.protocol.commands import Delete, Fork
from durable_streams_server.protocol.offsets import Offset, parse
from durable_streams_server.streams import forks
from durable_streams_server.streams.reader import Reader
from tests.requests import NOW, append, create
from tests.storage.files.stores import content, new_disk, open_store, run
from tests.streams.engines import Bench

JSON = "application/json"


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.do(create("/j", JSON, b'[{"a":"x,y"},2]'), append("/j", b"[3]", JSON))
    bench.do(create("/o", body=b"abcd"), append("/o", b"ef"))
    return bench


def resolve(bench: Bench, source: str, position: int, sub_offset: int | None) -> int | None:
    """Returns the byte position of a fork at a position of its source, plus a sub-offset."""
    name = parse(bench.state(source).name(position))
    return resolve_fork(bench, Fork(source, name, sub_offset))


def resolve_fork(bench: Bench, fork: Fork) -> int | None:
    """Returns the byte position of a fork, or None if only the decision can determine the position."""
    command = create("/new", None, fork=fork)
    found = forks.resolve(bench.store, bench.engine.reader, command, bench.clock.now).result()
    assert found.fork is not None
    if found.fork.problem is not None:
        raise found.fork.problem
    return found.fork.position


@pytest.mark.parametrize(
    ("source", "position", "sub_offset", "expected"),
    [
        ("/o", 0, None, 0),
        ("/o", 0, 3, 3),
        ("/o", 1, 3, 3),
        ("/o", 6, 0, 6),
        ("/j", 0, 1, 12),
        ("/j", 0, 2, 14),
        ("/j", 12, 1, 14),
        ("/j", 14, 1, 16),
    ],
)
def test_sub_offset_counts_bytes_or_whole_json_values(
    bench: Bench, source: str, position: int, sub_offset: int | None, expected: int
) -> None:  # TRAPS 27: commas inside a value do not count
    assert resolve(bench, source, position, sub_offset) == expected


@pytest.mark.parametrize(
    ("source", "position", "sub_offset"),
    [("/o", 0, 5), ("/o", 4, 3), ("/o", 6, 1), ("/j", 0, 3), ("/j", 14, 2), ("/j", 16, 1)],
)
def test_sub_offset_past_next_append_is_refused(
    bench: Bench, source: str, position: int, sub_offset: int
) -> None:
    with pytest.raises(BadRequest) as caught:
        resolve(bench, source, position, sub_offset)
    assert caught.value.code == "INVALID_SUB_OFFSET"


@pytest.mark.parametrize("source", ["/o", "/j"])
@pytest.mark.parametrize("sub_offset", [-1, -(10**30), 10**30])
def test_sub_offset_out_of_range_is_refused(bench: Bench, source: str, sub_offset: int) -> None:
    with pytest.raises(BadRequest) as caught:
        resolve(bench, source, 0, sub_offset)
    assert caught.value.code == "INVALID_SUB_OFFSET"


def test_fork_offset_inside_json_value_is_refused(bench: Bench) -> None:
    with pytest.raises(BadRequest):
        resolve(bench, "/j", 5, None)


def test_fork_offset_of_earlier_incarnation_is_bad_request(bench: Bench) -> None:
    old = parse(bench.state("/o").name(2))
    bench.do(Delete("/o"), create("/o", body=b"abcd"))
    with pytest.raises(BadRequest) as caught:
        resolve_fork(bench, Fork("/o", old, None))
    assert caught.value.code == "INVALID_OFFSET"


def test_fork_without_offset_needs_no_search_before_create(bench: Bench) -> None:
    assert resolve_fork(bench, Fork("/o", None, None)) is None


def test_fork_of_missing_source_needs_no_search_before_create(bench: Bench) -> None:
    assert resolve_fork(bench, Fork("/gone", Offset(1, 1), None)) is None


def test_repeated_fork_is_confirmed_even_if_source_is_deleted(bench: Bench) -> None:
    anchor = parse(bench.state("/o").name(4))
    command = create("/new", None, fork=Fork("/o", anchor, 2))
    assert bench.engine.create(command).result().created
    bench.do(Delete("/o"))
    assert not bench.engine.create(command).result().created
    with pytest.raises(Conflict) as caught:
        bench.engine.create(create("/other", None, fork=Fork("/o", anchor, 2))).result()
    assert caught.value.code == "SOURCE_GONE"
    other = create("/new", None, fork=Fork("/o", Offset(1, 1), 9))
    with pytest.raises(Conflict) as caught:
        bench.engine.create(other).result()
    assert caught.value.code == "STREAM_EXISTS"


def test_fork_is_recreated_while_delete_of_previous_fork_is_in_flight() -> None:
    store = open_store(new_disk())
    run(store, create("/o", body=b"abcd"), create("/new", None, fork=Fork("/o", None, None)))
    source = store.find("/o").result()
    assert source is not None
    command = create("/new", None, fork=Fork("/o", parse(source.name(0)), 2))
    gone = store.execute(Delete("/new"), NOW)
    made = forks.resolve(store, Reader(store), command, NOW).then(
        lambda found: store.execute(found, NOW)
    )
    store.commit_once()
    assert gone.done
    made.result()
    assert content(store, "/new") == b"ab"
