"""How the Python API refuses an argument of the wrong type: with a TypeError that names the argument, before anything is done.

Annotations bind nobody at run time, and Python converts much by itself: `bytes(5)` is five NULs. So every public function
checks what it is given here, in its first lines.

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

_TEXTS: Final = (str, bytes, bytearray, memoryview)  # sequences, but of characters


def require(kinds: Kinds, /, **arguments: object) -> None:
    """Returns if every argument is of one of the kinds. A bool is no number here.

    Raises:
        TypeError: an argument is of another type; the message names the argument.
    """
    for name, value in arguments.items():
        if not isinstance(value, kinds) or (isinstance(value, bool) and not _takes_bool(kinds)):
            raise wrong_type(name, value, _names(kinds))


def require_callable(*, optional: bool = False, **arguments: object) -> None:
    """Returns if every argument can be called.

    Args:
        optional: whether None will do as well.
        arguments: by name.

    Raises:
        TypeError: one cannot; the message names the argument.
    """
    for name, value in arguments.items():
        if not callable(value) and not (optional and value is None):
            raise wrong_type(name, value, "a function or None" if optional else "a function")


def require_each(kinds: Kinds, what: str, /, **arguments: object) -> None:
    """Returns if every argument is a sequence whose items are of one of the kinds. A text is no sequence here.

    Args:
        kinds: of the items.
        what: names the items in the message, such as `host names`.
        arguments: by name.

    Raises:
        TypeError: an argument is no such sequence; the message names the argument, and the item if one is wrong.
    """
    for name, value in arguments.items():
        if not isinstance(value, Sequence) or isinstance(value, _TEXTS):
            raise wrong_type(name, value, f"a list or tuple of {what}")
        for index, item in enumerate(value):
            require(kinds, **{f"{name}[{index}]": item})


def wrong_type(name: str, value: object, wanted: str) -> TypeError:
    """Returns the refusal of an argument of the wrong type."""
    return TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def _takes_bool(kinds: Kinds) -> bool:
    return bool in (kinds if isinstance(kinds, tuple) else (kinds,))


def _names(kinds: Kinds) -> str:
    """Returns the kinds as a message lists them, such as `str or None`."""
    listed: Iterable[type] = kinds if isinstance(kinds, tuple) else (kinds,)
    names = ["None" if kind is NoneType else kind.__name__ for kind in listed]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
