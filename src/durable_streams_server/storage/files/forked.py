"""Makes a forked copy of an open store refuse every call.

The child of a `fork()` has a copy of everything that its parent had, but only the parent may use the data directory. Each object that
holds a part of a data directory passes itself to `guard`. In the child, before any other code runs, its method `forked` is called,
which changes the class of the object to one that refuses every call (`refuse_calls`). So the parent never has to check its process id.
"""

import ctypes
import os
import types
import weakref
from abc import ABC
from typing import Any, Final, NoReturn, Protocol

from ...errors import StoreForked
from ...protocol.limits import RETRY_SOON


class Guarded(Protocol):
    """An object that must not be used in the child of a fork."""

    def forked(self) -> None:
        """Makes the object in the child harmless.

        The method runs in the child only, where no other thread exists. It must take no lock, because a thread of the parent may
        have held that lock during the fork.
        """


_guarded: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def guard(thing: Guarded) -> None:
    """Registers an object whose method `forked` is called in each child of this process, as long as the object lives."""
    _guarded.add(thing)


def refuse_calls(thing: object, contract: type[ABC], ends: str) -> None:
    """Makes every method of a contract raise StoreForked.

    Args:
        thing: the object that implements the contract.
        contract: the abstract class that declares the methods.
        ends: the method that ends the use of the object, which does nothing instead of raising.
    """
    refusals: dict[str, Any] = dict.fromkeys(contract.__abstractmethods__, _refuse)
    refusals[ends] = _do_nothing
    kind = type(thing)
    thing.__class__ = types.new_class(
        f"Forked{kind.__name__}", (kind,), exec_body=lambda names: names.update(refusals)
    )


def keep_forever(thing: object) -> None:
    """Prevents the destruction of an object, even when the process ends, because only the process that made it may destroy it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def refusal() -> StoreForked:
    """Returns the error that a forked copy raises for every call."""
    return StoreForked(
        "the store was opened before this process was forked: open it in the worker, and run one worker",
        retry_after=RETRY_SOON,
    )


def _refuse(*_: object, **__: object) -> NoReturn:
    raise refusal()


def _do_nothing(*_: object) -> None:
    return


def _became_child() -> None:
    things = tuple(_guarded)
    _guarded.clear()
    for thing in things:
        thing.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_became_child)
