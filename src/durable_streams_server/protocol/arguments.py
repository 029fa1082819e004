"""Checks the types of arguments that programs pass to the Python API.

Python does not enforce annotations, and converts some values silently: `bytes(5)` returns five NULs. So every public function
checks its arguments in its first lines, and raises a TypeError that names the argument before it does anything.

    require(str, path=path)
    require(OPTIONAL_INT, producer_epoch=producer_epoch)
"""

from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Final

Kinds = type | tuple[type, ...]

DATA: Final = (bytes, bytearray, memoryview)
NUMBER: Final = (int, float)
OPTIONAL_INT: Final = (int, NoneType)
OPTIONAL_NUMBER: Final = (int, float, NoneType)
OPTIONAL_TEXT: Final = (str, NoneType)

_TEXTS: Final = (str, bytes, bytearray, memoryview)  # sequences that are never accepted as lists


def require(kinds: Kinds, /, **arguments: object) -> None:
    """Checks that every argument is of one of the given types. A bool does not count as a number.

    Raises:
        TypeError: an argument has another type. The message names the argument.
    """
    for name, value in arguments.items():
        if not isinstance(value, kinds) or (isinstance(value, bool) and not _takes_bool(kinds)):
            raise wrong_type(name, value, _names(kinds))


def require_callable(*, optional: bool = False, **arguments: object) -> None:
    """Checks that every argument is callable.

    Args:
        optional: whether None is accepted as well.
        arguments: the arguments by name.

    Raises:
        TypeError: an argument is not callable. The message names the argument.
    """
    for name, value in arguments.items():
        if not callable(value) and not (optional and value is None):
            raise wrong_type(name, value, "a function or None" if optional else "a function")


def require_each(kinds: Kinds, what: str, /, **arguments: object) -> None:
    """Checks that every argument is a sequence of items of the given types. Strings and bytes do not count as sequences.

    Args:
        kinds: the accepted types of items.
        what: the name of the items in the message, such as `host names`.
        arguments: the arguments by name.

    Raises:
        TypeError: an argument is not such a sequence. The message names the argument, and the item if an item is wrong.
    """
    for name, value in arguments.items():
        if not isinstance(value, Sequence) or isinstance(value, _TEXTS):
            raise wrong_type(name, value, f"a list or tuple of {what}")
        for index, item in enumerate(value):
            require(kinds, **{f"{name}[{index}]": item})


def wrong_type(name: str, value: object, wanted: str) -> TypeError:
    """Returns the TypeError for an argument of the wrong type.

    Args:
        name: the name of the argument.
        value: the argument.
        wanted: the accepted types, as the message lists them.
    """
    return TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def _takes_bool(kinds: Kinds) -> bool:
    return bool in (kinds if isinstance(kinds, tuple) else (kinds,))


def _names(kinds: Kinds) -> str:
    """Returns the names of types for an error message, such as `str or None`."""
    listed: Iterable[type] = kinds if isinstance(kinds, tuple) else (kinds,)
    names = ["None" if kind is NoneType else kind.__name__ for kind in listed]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
