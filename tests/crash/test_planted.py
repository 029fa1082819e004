"""The bugs that `make planted` plants still fit the source: a change of the source must take them along."""

import pytest

from tests.crash.planted import HELPERS, PLANTS, ROOT, Plant

PLACES = [(plant.file, plant.old) for plant in PLANTS]
PLACES += [(file, old) for file, old, _ in HELPERS.values()]


@pytest.mark.parametrize(("file", "old"), PLACES)
def test_what_a_planted_bug_replaces_stands_in_the_source_once(file: str, old: str) -> None:
    assert (ROOT / file).read_text().count(old) == 1


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.what)
def test_source_with_a_planted_bug_still_compiles(plant: Plant) -> None:
    text = (ROOT / plant.file).read_text().replace(plant.old, plant.new)
    compile(text, plant.file, "exec")
