"""What a forked copy of an open store may do: nothing.

The child of a `fork()` has all that its parent had, but the data directory stays the parent's alone. Whatever holds a part of
a data directory calls `guard` on itself. In the child, before any other code runs there, its `forked` is called, and it
changes its own class to one that refuses (`refuse_calls`). So a call costs the parent nothing: nobody asks whose process it is.
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
    """Something that must not be used in the child of a fork."""

    def forked(self) -> None:
        """Makes this copy harmless. It runs in the child alone, where no other thread is left, and must take no lock: a
        thread of the parent may have held it."""


_guarded: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def guard(thing: Guarded) -> None:
    """Has `forked` called on a thing in each child of this process, for as long as the thing lives."""
    _guarded.add(thing)


def refuse_calls(thing: object, contract: type[ABC], ends: str) -> None:
    """Has every method of a contract raise StoreForked from now on.

    Args:
        thing: what implements the contract.
        contract: the abstract class whose methods are meant.
        ends: the method that ends the use of the thing; it does nothing from now on.
    """
    refusals: dict[str, Any] = dict.fromkeys(contract.__abstractmethods__, _refuse)
    refusals[ends] = _do_nothing
    kind = type(thing)
    thing.__class__ = types.new_class(
        f"Forked{kind.__name__}", (kind,), exec_body=lambda names: names.update(refusals)
    )


def keep_for_ever(thing: object) -> None:
    """Has a thing never be destroyed, not even when the process ends: its destructor is for the process that made it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def refusal() -> StoreForked:
    """Returns what a forked copy answers to everything."""
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
