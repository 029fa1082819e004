"""Event streams that the server ends: at a drain, at a stop, and while their readers are behind."""

import pytest

from durable_streams_server.protocol.limits import SSE_PAGE_SIZE
from tests.requests import append, create
from tests.streams.engines import Bench, run_until_idle
from tests.streams.test_event_stream import TEXT, Reader, control


async def test_event_stream_ends_soon_with_control_event_and_loses_nothing() -> None:  # TRAPS 36
    bench = Bench()
    bench.do(create("/a", TEXT))
    reader = Reader(bench)
    reader.pull()
    reader.stream.end_soon()
    assert reader.calls == 1
    bench.do(append("/a", b"new", TEXT))  # before the owner of the socket pulls
    found = reader.pull()
    assert [kind for kind, _ in found] == ["data", "control", "control"]
    assert found[0][1] == "new"
    assert control(found[2][1])["streamNextOffset"] == bench.state().name(3)
    assert reader.ended
    assert reader.stream.news() is None
    reader.stream.close()


@pytest.mark.parametrize("stops", [True, False])
async def test_reader_far_behind_gets_one_more_event_before_the_end(stops: bool) -> None:
    bench = Bench()
    bench.do(create("/a", TEXT))
    for _ in range(10):
        bench.do(append("/a", b"x" * SSE_PAGE_SIZE, TEXT))
    reader = Reader(bench)
    if stops:
        bench.engine.begin_shutdown()
    else:
        reader.stream.end_soon()
    found = reader.pull()
    assert [kind for kind, _ in found] == ["data", "control", "control"]
    last = control(found[-1][1])
    assert last["streamNextOffset"] == bench.state().name(SSE_PAGE_SIZE)
    assert "upToDate" not in last
    assert reader.ended
    reader.stream.close()


async def test_browsers_of_a_crowd_are_told_different_times_to_reconnect() -> None:
    bench = Bench()
    bench.do(create("/a", TEXT))
    readers = [Reader(bench) for _ in range(500)]
    for reader in readers:
        reader.pull()
    bench.engine.begin_shutdown()
    await run_until_idle(bench.engine.turns)
    waits = []
    for reader in readers:
        before = len(reader.raw)
        reader.pull()
        field, _, event = reader.raw[before:].partition(b"\n")
        assert event.startswith(b"id:")
        waits.append(int(field.removeprefix(b"retry:")))
        reader.stream.close()
    assert all(1000 <= wait < 1500 for wait in waits)
    assert len(set(waits)) > 100
