"""Who waits at which tail. A wake-up costs what its own stream's waiters cost, and nothing else's."""

from typing import Protocol

from ..protocol.state import StreamState


class Waiter(Protocol):
    """A live read that waits for its stream to change."""

    def wake(self) -> None:
        """The stream has more bytes, is closed, or is gone: look again. Must not raise."""
        ...


class Tails:
    """The waiters of every stream that has any, by incarnation."""

    def __init__(self) -> None:
        self._waiters: dict[int, dict[Waiter, None]] = {}

    def __len__(self) -> int:
        return sum(len(waiters) for waiters in self._waiters.values())

    def subscribe(self, state: StreamState, waiter: Waiter) -> None:
        """Has `waiter` woken at every change of the stream. Subscribe first, then look, then wait."""
        self._waiters.setdefault(state.incarnation, {})[waiter] = None
        state.readers += 1

    def unsubscribe(self, state: StreamState, waiter: Waiter) -> None:
        """Forgets the waiter; one that is not there is no error."""
        waiters = self._waiters.get(state.incarnation)
        if waiters is None or waiter not in waiters:
            return
        del waiters[waiter]
        state.readers -= 1
        if not waiters:
            del self._waiters[state.incarnation]

    def wake(self, state: StreamState) -> None:
        """Wakes who waits at this stream."""
        waiters = self._waiters.get(state.incarnation)
        if waiters:
            for waiter in tuple(waiters):
                waiter.wake()

    def wake_all(self) -> None:
        """Wakes everybody: the server is stopping."""
        for waiters in tuple(self._waiters.values()):
            for waiter in tuple(waiters):
                waiter.wake()
