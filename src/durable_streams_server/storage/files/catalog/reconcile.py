"""Compares the database of a catalog with its second copy when both are opened, and decides how to make them equal.

A commit goes to the copy first. So the copy has either the same commits as the database or one more. In any other case, one of
the two files is too old or belongs to another directory.
"""

import enum

from ...damage import Damaged
from .copy import CopyState
from .entries import Meta


class Relation(enum.Enum):
    """The possible differences between a catalog's database and its second copy. Each value says how to make the two equal."""

    LEVEL = "truncate a torn record at the end of the copy"
    AHEAD = "repeat the copy's last commit in the database"
    BEHIND = "rewrite the copy from the database"
    UNCOPIED = "write a first copy"


def relate(meta: Meta | None, state: CopyState | None, newest: int) -> Relation:
    """Returns how the second copy relates to a verified database.

    Args:
        meta: the database's metadata; None if nothing was ever committed to the database.
        state: the extent of the copy's intact commits; None if the copy has none.
        newest: the highest commit number in any intact record of the copy.

    Raises:
        Damaged: the database is older than the copy, or belongs to another directory.
    """
    commits = meta.commits if meta is not None else 0
    if meta is not None and not meta.identity:
        # The directory has the first format, or a server that writes no second copy has used it.
        return Relation.UNCOPIED
    if meta is not None and state is not None and state.identity != meta.identity:
        raise Damaged("catalog: its database and its second copy are of different directories")
    if newest > commits + 1:
        raise Damaged(
            f"catalog: its database is older than its second copy: {commits} commits of {newest}"
        )
    if state is None:
        return Relation.LEVEL if meta is None else Relation.BEHIND
    if state.commits > commits:
        if state.base == state.end:
            raise Damaged("catalog: its database has lost its last commit")
        return Relation.AHEAD
    return Relation.LEVEL if state.commits == commits else Relation.BEHIND
