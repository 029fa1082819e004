"""Runs the state machine of `tests/streams/machine.py` on a file store, with checkpoints, kills and power losses."""

from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.store import Store
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.reader import Reader
from tests.storage.files.stores import new_disk, open_store
from tests.streams.machine import StreamMachine

T = TypeVar("T")
OPTIONS = {"checkpoint_bytes": 400, "recent_limit": 0, "max_loaded": 3}


class FileMachine(StreamMachine):
    store: FileStore

    def make_store(self) -> Store:
        self.disk = new_disk()
        return open_store(self.disk, **OPTIONS)

    def wait(self, ticket: Ticket[T]) -> T:
        self.store.shell.wait_for(ticket)
        return ticket.result()

    @rule()
    def checkpoint(self) -> None:
        self.store.run_checkpoint()

    @rule(power=st.booleans(), closed=st.booleans())
    def restart(self, power: bool, closed: bool) -> None:
        if closed:
            self.store.close()
        if power:
            self.disk.lose_power()
        self.store = open_store(self.disk, **OPTIONS)
        self.reader = Reader(self.store)


TestFileMachine = FileMachine.TestCase
TestFileMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
