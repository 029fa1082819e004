"""Finds the name that a user meant by a mistyped one."""

import difflib
from collections.abc import Iterable


def meant(name: str, known: Iterable[str]) -> str:
    """Returns a question with the known name that is most similar to `name`, or nothing if none is similar."""
    close = difflib.get_close_matches(name, [*known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
