"""Large JSON bodies are split in steps, until the ticket is cancelled or the engine stops."""

import asyncio
import sys

import pytest

from durable_streams_server.errors import Unavailable
from durable_streams_server.protocol.commands import Append, Splitting, parse_append
from durable_streams_server.streams import bodies
from durable_streams_server.streams.turns import Turns
from tests.requests import append, create
from tests.streams.engines import Bench, run_until_idle

JSON = {b"content-type": b"application/json"}
LARGE = b"[[" + b"1," * 200_000 + b"1]]"


def large() -> Append:
    return parse_append("/a", JSON, LARGE)


def test_small_request_body_is_parsed_immediately() -> None:
    assert bodies.is_ready(append("/a", b"[1]", "application/json"))
    assert bodies.is_ready(create("/a", None, LARGE))
    assert not bodies.is_ready(large())
    bench = Bench()
    command = append("/a", b"[1]", "application/json")
    assert bodies.prepare(bench.store, bench.engine.turns, command).result() is command


async def test_large_json_body_is_split_over_several_loop_turns() -> None:
    bench = Bench()
    ticket = bodies.prepare(bench.store, bench.engine.turns, large())
    assert not ticket.done
    await run_until_idle(bench.engine.turns)
    body = ticket.result().body
    assert (body.splitting, body.problem) == (None, None)
    assert body.wire == LARGE[1:-1] + b","
    assert body.marks is not None


async def test_cancelled_ticket_stops_splitting_and_releases_body() -> None:
    turns = Turns()
    command = large()
    assert isinstance(command.body.splitting, Splitting)
    splitter = command.body.splitting._splitter
    ticket = bodies.prepare(Bench().store, turns, command)
    ticket.cancel()
    await asyncio.sleep(0)
    assert len(turns) == 0
    assert (splitter._body, splitter.position) == (b"", 0)


async def test_error_while_splitting_fails_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Splitting) -> bool:
        raise MemoryError

    monkeypatch.setattr(Splitting, "step", fail)
    turns = Turns()
    ticket = bodies.prepare(Bench().store, turns, large())
    await run_until_idle(turns)
    with pytest.raises(MemoryError):
        ticket.result()


async def test_body_split_while_engine_stops_is_refused() -> None:
    bench = Bench()
    bench.engine.start()
    ticket = bench.engine.append_large(large())
    await bench.engine.stop()
    await run_until_idle(bench.engine.turns)
    with pytest.raises(Unavailable):
        ticket.result()


async def test_finished_splitting_releases_body_without_garbage_collection() -> None:
    body = bytes(bytearray(LARGE))
    bench = Bench()
    before = sys.getrefcount(body)
    command = parse_append("/a", JSON, body)
    ticket = bodies.prepare(bench.store, bench.engine.turns, command)
    del command
    assert sys.getrefcount(body) > before
    await run_until_idle(bench.engine.turns)
    assert ticket.done
    assert sys.getrefcount(body) == before
