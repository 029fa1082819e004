"""Lifecycle hooks: who is told when a stream begins and ends, once each."""

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
    """What happened to a stream.

    Attributes:
        type: `created`, or `deleted` for an end by request, by expiry, or by soft delete.
        path: the stream's decoded path.
        content_type: the content type as given at creation; None when deleted.
        timestamp: Unix time in seconds.
    """

    type: Literal["created", "deleted"]
    path: str
    content_type: str | None
    timestamp: float


#: A function called with each event after it is durable; if it returns an awaitable, that is run to its end.
StreamLifecycleHook = Callable[[StreamLifecycleEvent], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class RegistryHook:
    """Asks for a registry stream; the store writes its events in the same record as the change that they list."""

    registry: Registry


def create_registry_hooks(
    registry_path: str = "__registry__", stream_root: str = DEFAULT_STREAM_ROOT
) -> list[StreamLifecycleHook | RegistryHook]:
    """Returns hooks that keep a registry: a stream of State Protocol events, one for each stream begun or ended.

    The registry is made with its first event, does not list itself, and is written by the server alone: a client's PUT,
    POST or DELETE on it is 405.

    Args:
        registry_path: the registry's path below the stream root, or a whole path if it begins with `/`.
        stream_root: the path that streams are under; it is left off the paths in events.

    Raises:
        BadRequest: when the path cannot name a stream.
    """
    require(str, registry_path=registry_path, stream_root=stream_root)
    root = normalize_root(stream_root)
    path = registry_path if registry_path.startswith("/") else f"{root}/{registry_path}"
    return [RegistryHook(Registry(check_path(path), root))]


class Hooks:
    """The hooks of one server.

    Raises:
        TypeError: for what is no hook.
        ValueError: for a second registry.
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
        """Calls the hooks for what has become durable."""
        for item in published:
            change, state = item.change, item.state
            if state is None or not isinstance(change, Created | SoftDeleted | Removed):
                continue
            if isinstance(change, Created):
                event = StreamLifecycleEvent(
                    "created", change.path, change.media.text, now / SECOND
                )
            elif isinstance(change, Removed) and state.visible_soft_deleted:
                continue  # its end was told when it was soft-deleted
            else:
                event = StreamLifecycleEvent("deleted", change.path, None, now / SECOND)
            for hook in self._hooks:
                self._call(hook, event)

    async def drain(self) -> None:
        """Waits for hooks that are still running."""
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
