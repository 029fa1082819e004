"""Memory prepared for large bodies. One test runs in another process, because `Heap.use` changes the whole process."""

import subprocess
import sys
from collections.abc import Callable
from itertools import count, repeat

import pytest

from durable_streams_server.http.native.heap import READY, Heap

BEGIN = """
import ctypes, resource
from durable_streams_server.cli.allocator import map_large_blocks
from durable_streams_server.http.native.heap import READY, Heap

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

map_large_blocks()
steps = []
heap = Heap(steps.append)
"""
KEEP = """
heap.used(READY // 2)
while steps:
    while steps[0]():
        pass
    del steps[0]
before = faults()
kept = [bytes(b"x") * 1_000_000 for _ in range(3)]
print(faults() - before, end=" ")
"""


class Libc:
    """A C library whose malloc returns one address, and whose madvise succeeds or fails."""

    def __init__(self, *, gives: bool = True, block: int | None = 0x1010) -> None:
        self.malloc: Callable[[int], int | None] = lambda _: block
        self.asked: list[tuple[int, int]] = []
        self.freed: list[int] = []
        self.gives = gives
        self.free = self.freed.append

    def madvise(self, begin: int, size: int, _: int) -> int:
        self.asked.append((begin, size))
        return 0 if self.gives else -1


@pytest.fixture
def steps() -> list[Callable[[], bool]]:
    return []


@pytest.fixture
def heap(steps: list[Callable[[], bool]]) -> Heap:
    """A heap for which every body seems to have used new memory."""
    return Heap(steps.append, count(READY, READY).__next__)


def use(monkeypatch: pytest.MonkeyPatch, libc: Libc) -> Libc:
    monkeypatch.setattr(Heap, "_libc", libc)
    return libc


def test_bodies_in_prepared_memory_cause_few_page_faults() -> None:
    found = subprocess.run(
        [sys.executable, "-c", BEGIN + KEEP * 3], capture_output=True, text=True, check=True
    )
    counts = list(map(int, found.stdout.split()))
    assert len(counts) == 3
    assert max(counts) < 100  # three bodies have 732 pages


def test_heap_prefaults_a_block_gradually_and_then_frees_it(
    monkeypatch: pytest.MonkeyPatch, heap: Heap, steps: list[Callable[[], bool]]
) -> None:
    libc = use(monkeypatch, Libc())
    heap.used(READY // 2 - 1)
    assert not steps
    heap.used(1)
    heap.used(READY)  # no second block is begun meanwhile
    (step,) = steps
    while step():
        assert not libc.freed
    assert libc.freed == [0x1010]
    ends = [begin + size for begin, size in libc.asked]
    assert libc.asked[0][0] == 0x2000
    assert [begin for begin, _ in libc.asked[1:]] == ends[:-1]
    assert ends[-1] == (0x1010 + READY) // 4096 * 4096
    heap.used(1)
    assert len(steps) == 2


def test_heap_prepares_no_block_while_bodies_reuse_memory(
    monkeypatch: pytest.MonkeyPatch, steps: list[Callable[[], bool]]
) -> None:
    use(monkeypatch, Libc())
    heap = Heap(steps.append, repeat(0).__next__)
    heap.used(READY)
    heap.used(READY)
    assert not steps


def test_heap_ignores_body_so_large_that_malloc_maps_it_separately(
    monkeypatch: pytest.MonkeyPatch, heap: Heap, steps: list[Callable[[], bool]]
) -> None:
    use(monkeypatch, Libc())
    heap.used(READY + 1)
    heap.used(READY // 2 - 1)
    assert not steps


def test_heap_stops_preparing_after_madvise_fails(
    monkeypatch: pytest.MonkeyPatch, heap: Heap, steps: list[Callable[[], bool]]
) -> None:
    libc = use(monkeypatch, Libc(gives=False))
    heap.used(READY)
    assert not steps[0]()
    assert libc.freed == [0x1010]
    heap.used(READY)
    assert len(steps) == 1


def test_heap_prepares_no_block_when_malloc_fails(
    monkeypatch: pytest.MonkeyPatch, heap: Heap, steps: list[Callable[[], bool]]
) -> None:
    use(monkeypatch, Libc(block=None))
    heap.used(READY)
    assert not steps


def test_heap_prepares_no_block_without_c_library(
    heap: Heap, steps: list[Callable[[], bool]]
) -> None:
    heap.used(READY)
    assert not steps
