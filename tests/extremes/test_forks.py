"""Chains of forks up to the depth limit, over HTTP: they are read in full and live, also after a kill and a restart."""

import asyncio
from pathlib import Path

import pytest

from durable_streams_server.protocol.limits import MAX_FORK_DEPTH
from tests.extremes.cases import ROOT, TYPE, Step
from tests.extremes.worlds import LaneName, World

PAST = 10


def path_of(depth: int) -> bytes:
    """Returns the path of the fork at a depth."""
    return ROOT + b"/%d" % depth


async def assert_chain(world: World) -> None:
    """Reads the deepest fork in full, from its middle, and live, and checks that no deeper fork exists."""
    whole = bytes(ord("a") + depth % 26 for depth in range(MAX_FORK_DEPTH + 1))
    deepest = path_of(MAX_FORK_DEPTH)
    read = await world.ask(Step("GET", deepest))
    assert (read.status, read.body) == (200, whole)
    middle = await world.ask(Step("HEAD", path_of(MAX_FORK_DEPTH // 2)))
    offset = middle.headers["stream-next-offset"].encode()
    rest = await world.ask(Step("GET", deepest, query=b"offset=" + offset))
    assert rest.body == whole[MAX_FORK_DEPTH // 2 + 1 :]
    events = await world.ask(Step("GET", deepest, query=b"offset=-1&live=sse"))
    assert b"data:" + whole in events.body
    more = Step("PUT", path_of(MAX_FORK_DEPTH + 1), ((b"stream-forked-from", deepest),))
    refused = await world.ask(more)
    assert (refused.status, refused.error["code"]) == (409, "FORK_TOO_DEEP")
    assert (await world.ask(Step("GET", more.path))).status == 404


@pytest.mark.parametrize("lane", ["native", "asgi"])
@pytest.mark.parametrize("store", ["memory", "files"])
async def test_chain_of_forks_at_the_depth_limit_is_read_in_full(
    tmp_path: Path, lane: LaneName, store: str
) -> None:
    directory = tmp_path / "data" if store == "files" else None
    world = await World(lane, directory).begin()
    for depth in range(MAX_FORK_DEPTH + PAST):
        source = ((b"stream-forked-from", path_of(depth - 1)),) if depth else (TYPE,)
        letter = bytes([ord("a") + depth % 26])
        made = await world.ask(Step("PUT", path_of(depth), source, letter))
        if depth <= MAX_FORK_DEPTH:
            assert made.status == 201
        else:
            assert made.status in (404, 409)
    await assert_chain(world)
    if directory is not None:
        killed = await world.start_copy()
        await assert_chain(killed)
        await killed.stop()
        await world.restart()
        await assert_chain(world)
    paths = [path_of(depth) for depth in range(MAX_FORK_DEPTH + 1)]
    answers = await asyncio.gather(*(world.ask(Step("DELETE", path)) for path in paths))
    assert {answer.status for answer in answers} == {204}
    for path in paths:
        assert (await world.ask(Step("GET", path))).status == 404
    await world.stop()
