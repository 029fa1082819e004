"""Runners of the store that add every record to a history when the store decides it."""

from collections.abc import Callable

from durable_streams_server.protocol.state import Change
from durable_streams_server.storage.files.commits import Commits
from durable_streams_server.storage.files.executor import Executor
from durable_streams_server.storage.files.runner import Runner
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.synchronous import Synchronous

#: The changes of each record, by LSN.
History = dict[int, list[Change]]


def record_newest(commits: Commits, history: History) -> None:
    """Adds the newest decision of a store to a history, if the decision made a record."""
    item = commits.newest_pending
    if item.place is not None:
        history[item.place.lsn] = [each.change for each in item.published]


class RecordingRunner(Runner):
    """The real runner, with a history of every record.

    Args:
        store: the store to run.
        executor: runs the runner's jobs.
        on_failure: called with the error that stops the store.
        history: gains each record.
    """

    def __init__(
        self,
        store: FileStore,
        executor: Executor,
        on_failure: Callable[[BaseException], None],
        history: History,
    ) -> None:
        super().__init__(*store.parts, executor, on_failure)
        self._history = history

    def commit_due(self) -> None:
        super().commit_due()
        record_newest(self._commits, self._history)


class RecordingShell(Synchronous):
    """The shell of a store without a runner, with a history of every record.

    Args:
        store: the store.
        history: gains each record.
    """

    def __init__(self, store: FileStore, history: History) -> None:
        super().__init__(*store.parts)
        self._history = history

    def commit_due(self) -> None:
        record_newest(self._commits, self._history)
