"""Tests that the bugs of `make planted` still fit the source. Whoever changes a line of the source must change its bug too."""

import pytest

from tests.crash.planted import HELPERS, PLANTS
from tests.crash.planting import ROOT, Plant

PLACES = [(plant.file, plant.old) for plant in PLANTS]
PLACES += [(helper.file, helper.old) for helper in HELPERS.values()]


@pytest.mark.parametrize(("file", "old"), PLACES)
def test_planted_bug_matches_exactly_one_place_in_the_source(file: str, old: str) -> None:
    assert (ROOT / file).read_text().count(old) == 1


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.what)
def test_source_with_a_planted_bug_compiles(plant: Plant) -> None:
    text = (ROOT / plant.file).read_text().replace(plant.old, plant.new)
    compile(text, plant.file, "exec")
