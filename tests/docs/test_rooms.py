"""Tests that docs/rooms.md shows the imports as they are, and that no rooms import each other in a circle."""

from graphlib import TopologicalSorter

from docs.rooms import PAGE, between_rooms, imports, page


def test_page_of_rooms_is_current() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make rooms`"


def test_rooms_have_no_circle_of_imports() -> None:
    TopologicalSorter(between_rooms(imports())).prepare()
