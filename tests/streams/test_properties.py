"""Runs the state machine of `machine.py` on the memory store."""

from hypothesis import settings

from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.store import Store
from tests.streams.machine import StreamMachine


class MemoryMachine(StreamMachine):
    def make_store(self) -> Store:
        return MemoryStore()


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
