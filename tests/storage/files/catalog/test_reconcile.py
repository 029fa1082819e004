"""Tests of all cases in which database and copy may differ when a catalog is opened."""

import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog.copy import CopyState
from durable_streams_server.storage.files.catalog.entries import Meta
from durable_streams_server.storage.files.catalog.reconcile import Relation, relate


def meta(commits: int, identity: int = 5) -> Meta:
    return Meta(commits=commits, identity=identity)


def state(commits: int, identity: int = 5, *, is_base: bool = False) -> CopyState:
    return CopyState(identity, commits, 50, 90, 90 if is_base else 0)


@pytest.mark.parametrize(
    ("stored", "copy", "newest", "expected"),
    [
        (None, None, 0, Relation.LEVEL),  # a new directory
        (None, state(1), 1, Relation.AHEAD),  # a crash in the first commit
        (None, None, 1, Relation.LEVEL),  # a crash in the first commit's copy
        (meta(3), state(3), 3, Relation.LEVEL),
        (meta(3), state(3), 4, Relation.LEVEL),  # a torn commit
        (meta(3), state(4), 4, Relation.AHEAD),
        (meta(3), state(3, is_base=True), 3, Relation.LEVEL),
        (meta(3), state(2), 2, Relation.BEHIND),  # the copy has lost its end
        (meta(3), state(1), 3, Relation.BEHIND),  # the copy is damaged in the middle
        (meta(3), None, 0, Relation.BEHIND),
        (meta(0, 0), None, 0, Relation.UNCOPIED),  # the first format
        (
            meta(0, 0),
            state(9),
            9,
            Relation.UNCOPIED,
        ),  # an old server has used the directory meanwhile
    ],
)
def test_commit_numbers_show_whether_database_or_second_copy_is_newer(
    stored: Meta | None, copy: CopyState | None, newest: int, expected: Relation
) -> None:
    assert relate(stored, copy, newest) is expected


@pytest.mark.parametrize(
    ("stored", "copy", "newest", "words"),
    [
        (meta(3), state(3, 6), 3, "different directories"),
        (meta(3), state(5), 5, "older than its second copy"),
        (meta(3), None, 5, "older than its second copy"),
        (meta(3), state(1), 5, "older than its second copy"),
        (None, state(2), 2, "older than its second copy"),
        (meta(3), state(4, is_base=True), 4, "lost its last commit"),
    ],
)
def test_database_that_does_not_match_its_second_copy_raises_damaged(
    stored: Meta | None, copy: CopyState | None, newest: int, words: str
) -> None:
    with pytest.raises(Damaged, match=words):
        relate(stored, copy, newest)
