"""Lifecycle hooks: functions that are called once when a stream is created and once when it is deleted."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..log import log as _log
from ..protocol.arguments import require, wrong_type
from ..protocol.names import DEFAULT_STREAM_ROOT
from ..protocol.paths import check_path, normalize_root
from ..protocol.registry import Registry
from ..protocol.state import Created, Removed, SoftDeleted
from ..protocol.units import SECOND
from ..storage.store import Published


@dataclass(frozen=True, slots=True)
class StreamLifecycleEvent:
    """The creation or deletion of a stream.

    Attributes:
        type: `created`, or `deleted` after a DELETE request, a soft delete or the end of the lifetime.
        path: the decoded path of the stream.
        content_type: the content type as given at creation; None for a deletion.
        timestamp: the wall-clock time, in seconds of Unix time.
    """

    type: Literal["created", "deleted"]
    path: str
    content_type: str | None
    timestamp: float


#: A function that is called with each event once the change is durable. If it returns an awaitable, the server awaits it.
StreamLifecycleHook = Callable[[StreamLifecycleEvent], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class RegistryHook:
    """Configures a registry stream. The store writes each registry event in the same record as the change that the event lists."""

    registry: Registry


def create_registry_hooks(
    registry_path: str = "__registry__", stream_root: str = DEFAULT_STREAM_ROOT
) -> list[StreamLifecycleHook | RegistryHook]:
    """Returns hooks that keep a registry: a stream with a State Protocol event for each stream that is created or deleted.

    The server creates the registry with the first event. The registry does not list itself. Clients cannot write to it; their PUT, POST
    and DELETE requests get 405.

    Args:
        registry_path: path of the registry below the stream root, or an absolute path if it begins with `/`.
        stream_root: the path below which the streams lie. Events name paths relative to it.

    Raises:
        BadRequest: the path cannot name a stream.
    """
    require(str, registry_path=registry_path, stream_root=stream_root)
    root = normalize_root(stream_root)
    path = registry_path if registry_path.startswith("/") else f"{root}/{registry_path}"
    return [RegistryHook(Registry(check_path(path), root))]


class Hooks:
    """Calls the hooks of one server.

    Args:
        hooks: functions to call, and at most one registry.

    Attributes:
        registry: the registry to keep, or None.
        present: whether there are functions to call.

    Raises:
        TypeError: a value is not a hook.
        ValueError: there is more than one registry.
    """

    def __init__(self, hooks: Sequence[StreamLifecycleHook | RegistryHook]) -> None:
        _check(hooks)
        registries = [hook.registry for hook in hooks if isinstance(hook, RegistryHook)]
        if len(registries) > 1:
            raise ValueError("there can be one registry only")
        self.registry = registries[0] if registries else None
        self._hooks = [hook for hook in hooks if not isinstance(hook, RegistryHook)]
        self.present = bool(self._hooks)
        self._running: set[asyncio.Task[None]] = set()

    def notify(self, published: Iterable[Published], now: int) -> None:
        """Calls the hooks for changes that have become durable.

        Args:
            published: the changes and the states of their streams.
            now: the wall-clock time in microseconds of Unix time.
        """
        for item in published:
            change, state = item.change, item.state
            if state is None or not isinstance(change, Created | SoftDeleted | Removed):
                continue
            if isinstance(change, Created):
                event = StreamLifecycleEvent(
                    "created", change.path, change.media.text, now / SECOND
                )
            elif isinstance(change, Removed) and state.visible_soft_deleted:
                continue  # the soft delete has already been reported
            else:
                event = StreamLifecycleEvent("deleted", change.path, None, now / SECOND)
            for hook in self._hooks:
                self._call(hook, event)

    async def drain(self) -> None:
        """Waits until all asynchronous hooks have ended."""
        if self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def _call(self, hook: StreamLifecycleHook, event: StreamLifecycleEvent) -> None:
        try:
            result = hook(event)
        except Exception:
            _log.exception("a lifecycle hook failed")
            return
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(_run(result))
            self._running.add(task)
            task.add_done_callback(self._running.discard)


def _check(hooks: object) -> None:
    if not isinstance(hooks, Sequence) or isinstance(hooks, str | bytes):
        raise wrong_type("hooks", hooks, "a list or tuple of hooks")
    for index, hook in enumerate(hooks):
        if not callable(hook) and not isinstance(hook, RegistryHook):
            wanted = "a function, or one that create_registry_hooks() returns"
            raise wrong_type(f"hooks[{index}]", hook, wanted)


async def _run(result: Awaitable[None]) -> None:
    try:
        await result
    except Exception:
        _log.exception("a lifecycle hook failed")
