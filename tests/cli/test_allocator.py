"""Tests that malloc maps large blocks, even after a block of the same size has been freed."""

import ctypes
import os
import subprocess
import sys

import pytest

from durable_streams_server.cli import allocator
from durable_streams_server.storage.files.limits import MAX_UNFLUSHED, RECENT_LIMIT
from tests.process import COMMAND

# Frees a first block, which malloc always maps, and prints whether malloc also maps the next block of the same size.
AFTER_A_FREE = """
import ctypes
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
freed = bytes(30 << 20)
del freed
before = mallinfo().hblks
block = bytes(30 << 20)
print(mallinfo().hblks - before)
"""
# Fills the heap with blocks of 1 MB, frees all of them, and prints how many MiB of the heap malloc keeps.
KEPT = """
import ctypes, sys
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
blocks = [bytes(1 << 20) for _ in range({count})]
blocks.clear()
print(mallinfo().arena >> 20)
"""
MAPPED = "from durable_streams_server.cli.allocator import map_large_blocks; map_large_blocks()\n"
BARE = {name: value for name, value in os.environ.items() if name not in allocator._CHOICES}

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33, which has mallinfo2"
)


def printed(code: str, **environment: str) -> int:
    """Runs code and returns the number that it prints."""
    asked = [sys.executable, "-c", code]
    found = subprocess.run(
        asked, env=BARE | environment, capture_output=True, text=True, check=True
    )
    return int(found.stdout)


def test_malloc_maps_a_large_block_even_after_a_free() -> None:
    assert (printed(AFTER_A_FREE), printed(MAPPED + AFTER_A_FREE)) == (0, 1)


def test_malloc_settings_in_the_environment_take_precedence() -> None:
    assert printed(MAPPED + AFTER_A_FREE, MALLOC_MMAP_THRESHOLD_=str(32 << 20)) == 0
    assert (
        printed(MAPPED + AFTER_A_FREE, GLIBC_TUNABLES="glibc.malloc.mmap_threshold=33554432") == 0
    )


def test_serve_command_makes_malloc_map_large_blocks() -> None:
    """The server cannot listen and exits; an exit handler prints whether a block is mapped."""
    code = f"import atexit\natexit.register(exec, {AFTER_A_FREE!r}, {{}})\n" + COMMAND[2]
    asked = [sys.executable, "-c", code, "serve", "--memory", "--uds", "/nowhere/socket"]
    found = subprocess.run(asked, env=BARE, capture_output=True, text=True, check=False)
    assert found.stdout.splitlines()[-1:] == ["1"], found


def test_malloc_retains_freed_memory_up_to_the_limit_of_buffered_appends() -> None:
    most = (MAX_UNFLUSHED + RECENT_LIMIT) >> 20
    assert printed(MAPPED + KEPT.format(count=most - 4)) >= most - 4
    assert printed(MAPPED + KEPT.format(count=2 * most)) < most
