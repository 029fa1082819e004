"""The C library's memory: large blocks are mappings of their own, also after the first of them has been freed."""

import ctypes
import os
import subprocess
import sys

import pytest

from durable_streams_server.cli import allocator
from durable_streams_server.storage.files.limits import MAX_UNFLUSHED, RECENT_LIMIT
from tests.process import COMMAND

# Frees a block that is mapped in any case, and prints whether the next one of its size is mapped too.
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
# Fills the heap with blocks of 1 MB, frees all of them, and prints how many MiB of it malloc still has.
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
ASKED = "from durable_streams_server.cli.allocator import map_large_blocks; map_large_blocks()\n"
BARE = {name: value for name, value in os.environ.items() if name not in allocator._CHOICES}

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc does so, and tells from 2.33 on"
)


def printed(code: str, **environment: str) -> int:
    """Runs code that ends with `AFTER_A_FREE`, and returns the number that it prints."""
    asked = [sys.executable, "-c", code]
    found = subprocess.run(
        asked, env=BARE | environment, capture_output=True, text=True, check=True
    )
    return int(found.stdout)


def test_a_large_block_is_a_mapping_whatever_was_freed_before() -> None:
    assert (printed(AFTER_A_FREE), printed(ASKED + AFTER_A_FREE)) == (0, 1)


def test_an_operators_own_setting_is_kept() -> None:
    assert printed(ASKED + AFTER_A_FREE, MALLOC_MMAP_THRESHOLD_=str(32 << 20)) == 0
    assert printed(ASKED + AFTER_A_FREE, GLIBC_TUNABLES="glibc.malloc.mmap_threshold=33554432") == 0


def test_serve_maps_large_blocks() -> None:
    """This server refuses its arguments and ends; on its way out it prints what its memory does."""
    code = f"import atexit\natexit.register(exec, {AFTER_A_FREE!r}, {{}})\n" + COMMAND[2]
    asked = [sys.executable, "-c", code, "serve", "--max-body", "2", "--max-in-flight", "1"]
    found = subprocess.run(asked, env=BARE, capture_output=True, text=True, check=False)
    assert found.stdout.splitlines()[-1:] == ["1"], found


def test_memory_is_kept_for_what_a_store_keeps_and_no_more() -> None:
    most = (MAX_UNFLUSHED + RECENT_LIMIT) >> 20
    assert printed(ASKED + KEPT.format(count=most - 4)) >= most - 4
    assert printed(ASKED + KEPT.format(count=2 * most)) < most
