"""How the database and its second copy stand to each other when they are opened, and what follows: a table of cases.

A commit goes to the copy first. So the copy is level with the database or one commit ahead, unless one of the two files is
not the one that this directory had.
"""

import enum

from ...damage import Damaged
from .copy import CopyState
from .entries import Meta


class Relation(enum.Enum):
    """What is to be done."""

    LEVEL = "cut off what is torn at the copy's end"
    AHEAD = "do the copy's last commit again in the database"
    BEHIND = "write the copy anew from the database"
    UNCOPIED = "write a first copy"


def relate(meta: Meta | None, state: CopyState | None, newest: int) -> Relation:
    """Returns what is to be done with a database that has been verified and its copy.

    Args:
        meta: the database's summary; None if nothing was ever committed to it.
        state: what the copy holds, if it holds a whole commit.
        newest: the newest commit of which it holds anything.

    Raises:
        Damaged: the database is older than the copy, or another directory's.
    """
    commits = meta.commits if meta is not None else 0
    if meta is not None and not meta.identity:
        return (
            Relation.UNCOPIED
        )  # the first format, or a server that knows no copies has had the directory
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
