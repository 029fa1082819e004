"""The newest stream states of a repair, loaded from the catalog when they are first needed."""

from collections.abc import Callable, Iterator, MutableMapping

from ....protocol.state import StreamState


class LoadedStates(MutableMapping[str, StreamState]):
    """Maps paths to stream states. A look-up of a path that has no state yet loads the state from the catalog.

    Iteration and `len` cover the states that are loaded, not the whole catalog.

    Args:
        load: returns the state of a path as the catalog has it, or None if the catalog has no such stream.
    """

    def __init__(self, load: Callable[[str], StreamState | None]) -> None:
        self._load = load
        self._states: dict[str, StreamState] = {}
        self._deleted: set[str] = set()

    def __getitem__(self, path: str) -> StreamState:
        state = self._states.get(path)
        if state is None and path not in self._deleted:
            state = self._load(path)
            if state is not None:
                self._states[path] = state
        if state is None:
            raise KeyError(path)
        return state

    def __setitem__(self, path: str, state: StreamState) -> None:
        self._deleted.discard(path)
        self._states[path] = state

    def __delitem__(self, path: str) -> None:
        del self._states[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def is_loaded(self, path: str) -> bool:
        """Returns whether a path has a state in memory."""
        return path in self._states

    def delete(self, path: str) -> None:
        """Removes a stream. A later look-up of its path does not load the stream from the catalog again."""
        self._deleted.add(path)
        self._states.pop(path, None)

    def is_deleted(self, path: str) -> bool:
        """Returns whether the stream at a path was deleted, and no other stream was created there since."""
        return path in self._deleted
