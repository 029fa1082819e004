"""Tests that docs/rooms.md shows the present imports, and that the imports between rooms have no cycle."""

from graphlib import TopologicalSorter

from docs.rooms import PAGE, between_rooms, imports, page


def test_rooms_page_matches_the_imports_in_the_source() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make rooms`"


def test_top_level_packages_have_no_import_cycle() -> None:
    TopologicalSorter(between_rooms(imports())).prepare()
