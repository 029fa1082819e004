"""The sweep: every case on every kind of server. `python -m tests.extremes.sweep [SHARE]` runs one case in SHARE.

For every case, no response may be 5xx, and the store must neither stop nor fail to open. Reads must return exactly the acknowledged data:
immediately, after a kill, and after a checkpoint and a restart. A refused request must create no stream. The cases of a batch share a
server. A batch that fails is halved until the failing case is found.
"""

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, get_args

from tests.extremes.cases import Case, Step, every_case
from tests.extremes.worlds import LaneName, StoreName, World
from tests.http.asgi_driver import Answer
from tests.requests import NOW

BATCH = 250
AT_ONCE = 100  # cases in progress
WRITTEN = b"2025-06-15T15:06:40Z"  # `NOW` in the format of a deadline
REGISTRY = "/v1/stream/__registry__"
SHOWN_BY_HEAD = ("content-type", "stream-next-offset", "stream-closed", "stream-ttl")


@dataclass
class Content:
    """The acknowledged content of one stream, which reads must return.

    Attributes:
        wire: The bytes of the stream. Each JSON value is followed by a comma.
        is_json: Whether the stream holds JSON.
        closed: Whether the stream is closed.
    """

    wire: bytes
    is_json: bool
    closed: bool

    @property
    def body(self) -> bytes:
        """Returns the body of a read of the whole stream."""
        return b"[" + self.wire[:-1] + b"]" if self.is_json else self.wire


@dataclass
class Judge:
    """Records the responses of one case, and computes from them the content that must exist at the end."""

    case: Case
    streams: dict[bytes, Content] = field(default_factory=dict)
    token: str = ""
    wake: bytes = b""

    def record(self, step: Step, answer: Answer) -> None:
        """Records the content that a response acknowledges. Fails if the response is 5xx."""
        assert answer.status < 500, f"{step}: {answer.status} {answer.body[:200]!r}"
        if answer.status >= 400:
            if step.method != "HEAD":
                assert json.loads(answer.body)["error"]["code"]
        elif step.is_own:
            self._record_claim(answer)
        elif step.method == "PUT" and answer.status == 201:
            self._record_create(step, answer)
        elif step.method == "POST":
            self._record_append(step, answer)
        elif step.method == "DELETE":
            del self.streams[step.path]

    def complete(self, step: Step) -> Step:
        """Returns a step with the token and the wake id of an earlier claim, if it needs them."""
        if not step.needs_token:
            return step
        headers = (*step.headers, (b"authorization", b"Bearer " + self.token.encode()))
        body = step.body.replace(b"{wake}", self.wake)
        return Step(step.method, step.path, headers, body, step.query)

    def _record_claim(self, answer: Answer) -> None:
        """Records the token and the wake id of a claim."""
        if answer.body.startswith(b"{"):
            found = json.loads(answer.body)
            self.token = found.get("token", self.token)
            self.wake = (found.get("wake_id") or "").encode()

    def _record_create(self, step: Step, answer: Answer) -> None:
        """Records a new stream."""
        headers = dict(step.headers)
        is_json = answer.headers["content-type"].lower().startswith("application/json")
        begin = b""
        if b"stream-forked-from" in headers:
            source = self.streams[step.path.removesuffix(b"/fork")].wire
            begin = source[: _position(answer) - len(step.body)]
        wire = begin + (_wire(step.body) if is_json else step.body)
        self.streams[step.path] = Content(wire, is_json, _closes(headers))
        assert _position(answer) == len(wire)

    def _record_append(self, step: Step, answer: Answer) -> None:
        """Records an append."""
        stream, headers = self.streams[step.path], dict(step.headers)
        is_duplicate = b"producer-id" in headers and answer.status == 204
        if not is_duplicate:
            stream.wire += _wire(step.body) if stream.is_json else step.body
            stream.closed = stream.closed or _closes(headers)
        assert _position(answer) == len(stream.wire)

    def has_expired(self) -> bool:
        """Returns whether the streams of the case expire immediately."""
        deadline = self.case.lifetime.get(b"stream-expires-at", b"9999")
        passed = deadline <= WRITTEN and not deadline.startswith(WRITTEN[:-1] + b".")
        return passed or self.case.lifetime.get(b"stream-ttl") == b"0"

    async def compare(self, world: World) -> None:
        """Reads the streams of the case, and fails if their content differs from what was acknowledged."""
        for path, content in self.streams.items():
            read = await world.ask(Step("GET", path))
            if self.has_expired():
                assert read.status == 404
                continue
            assert (read.status, read.body) == (200, content.body)
            assert (read.headers.get("stream-closed") == "true") == content.closed
        for path in {step.path for step in self.case.steps if not step.is_own}:
            if path not in self.streams:
                read = await world.ask(Step("GET", path))
                assert 400 <= read.status < 500, f"refused, and {path!r} is there"

    async def shown(self, world: World) -> list[Any]:
        """Returns the properties of the streams and the subscription, which a restart must not change."""
        found: list[Any] = []
        for path in self.streams:
            head = await world.ask(Step("HEAD", path))
            found.append([head.status, *(head.headers.get(name) for name in SHOWN_BY_HEAD)])
        if self.case.about is not None:
            answer = await world.ask(Step("GET", self.case.about))
            document = json.loads(answer.body)
            for name in ("status", "reason"):
                document.pop(name, None)  # deliveries may change these fields
            found.append([answer.status, document])
        return found


def _wire(body: bytes) -> bytes:
    """Returns the bytes that a stream stores for a JSON body. The body must not have white space inside an array."""
    body = body.strip(b" ")
    values = body[1:-1] if body.startswith(b"[") else body
    return values + b"," if values else b""


def _closes(headers: dict[bytes, bytes]) -> bool:
    """Returns whether a request closes its stream."""
    return headers.get(b"stream-closed", b"").lower() == b"true"


def _position(answer: Answer) -> int:
    """Returns the byte position of the offset in a response."""
    return int(answer.headers["stream-next-offset"].partition("_")[2])


async def _converse(world: World, case: Case, places: asyncio.Semaphore) -> Judge:
    """Sends the requests of a case, and returns the judge that has recorded the responses."""
    judge = Judge(case)
    async with places:
        for step in case.steps:
            sent = judge.complete(step)
            judge.record(sent, await world.ask(sent))
    return judge


async def _compare_all(world: World, judges: Sequence[Judge], shown: list[list[Any]]) -> None:
    """Fails if content or properties on the server differ from those that the cases left, or if a refused request left a stream."""
    for judge, before in zip(judges, shown, strict=True):
        await judge.compare(world)
        assert await judge.shown(world) == before
    acknowledged = sum(len(judge.streams) for judge in judges)
    there = set(world.store.paths()) - {REGISTRY}
    assert len(there) <= acknowledged, "a refused request has left a stream"


async def _try(cases: Sequence[Case], lane: LaneName, directory: Path | None, now: int) -> None:
    """Runs cases on one server and compares its content. With a store on files, compares again after a kill and after a restart."""
    world = await World(lane, directory, now).begin()
    places = asyncio.Semaphore(AT_ONCE)
    try:
        judges = await asyncio.gather(*(_converse(world, case, places) for case in cases))
        shown = [await judge.shown(world) for judge in judges]
        await _compare_all(world, judges, shown)
        if directory is not None:
            killed = await world.start_copy()
            try:
                await _compare_all(killed, judges, shown)
            finally:
                await killed.stop()
            await world.restart()
            await _compare_all(world, judges, shown)
    finally:
        await world.stop()


def run_batch(cases: Sequence[Case], lane: LaneName, store: StoreName, now: int = NOW) -> None:
    """Runs cases on one server, whose clock always shows `now`.

    Raises:
        AssertionError: A case fails, or several fail only together. The message has the command that runs them again.
    """
    suspects = [cases]
    failure: BaseException | None = None
    while suspects:
        tried = suspects.pop()
        found = _failure_of(tried, lane, store, now)
        if found is None:
            continue
        failure = found
        if len(tried) == 1:
            again = repeating_command(tried, lane, store, now)
            raise AssertionError(f"{lane}, {store}: {tried[0].label}\n{again}") from found
        half = len(tried) // 2
        suspects = [tried[half:], tried[:half]]
    if failure is not None:
        again = repeating_command(cases, lane, store, now)
        raise AssertionError(
            f"{lane}, {store}: these {len(cases)} cases fail together\n{again}"
        ) from failure


def repeating_command(cases: Sequence[Case], lane: LaneName, store: StoreName, now: int) -> str:
    """Returns the command that runs these cases again on a server of the same kind."""
    numbers = ",".join(str(case.number) for case in cases)
    return (
        f"repeat with: python -m tests.extremes.sweep --lane {lane} --store {store} --now={now}"
        f" --cases {numbers}"
    )


def _failure_of(
    cases: Sequence[Case], lane: LaneName, store: StoreName, now: int
) -> Exception | None:
    """Runs cases on a new server, and returns the exception of a failure, or None."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "data" if store == "files" else None
        try:
            asyncio.run(_try(cases, lane, directory, now))
        except Exception as error:
            return error
    return None


def batches(share: int, seed: int = 0) -> Iterable[list[Case]]:
    """Yields batches of one in `share` cases, chosen at random with `seed`."""
    every = list(every_case())
    if share > 1:
        every = Random(seed).sample(every, len(every) // share)
    cases = iter(every)
    while batch := list(itertools.islice(cases, BATCH)):
        yield batch


def _say(line: str) -> None:
    """Prints a line immediately."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Runs the sweep and prints a line for each kind of server. Returns the number of failed batches."""
    parser = argparse.ArgumentParser(prog="python -m tests.extremes.sweep")
    parser.add_argument("share", nargs="?", type=int, default=1, help="run one case in SHARE")
    parser.add_argument("--lane", choices=get_args(LaneName), help="run on this lane only")
    parser.add_argument("--store", choices=get_args(StoreName), help="run on this store only")
    parser.add_argument("--cases", help="numbers of the only cases to run, with commas between")
    parser.add_argument("--now", type=int, default=NOW, help="microseconds since 1970")
    given = parser.parse_args(arguments)
    lanes = [given.lane] if given.lane else get_args(LaneName)
    stores = [given.store] if given.store else get_args(StoreName)
    failed = 0
    for lane, store in itertools.product(lanes, stores):
        began, count = time.monotonic(), 0
        for batch in batches(given.share) if given.cases is None else [numbered(given.cases)]:
            count += len(batch)
            try:
                run_batch(batch, lane, store, given.now)
            except AssertionError as error:
                failed += 1
                _say(f"FAILED {error}\n{error.__cause__!r}")
        _say(f"{lane}, {store}: {count} cases in {time.monotonic() - began:.0f} s")
    return failed


def numbered(numbers: str) -> list[Case]:
    """Returns the cases with these numbers, which are separated by commas."""
    wanted = {int(number) for number in numbers.split(",")}
    return [case for case in every_case() if case.number in wanted]


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
