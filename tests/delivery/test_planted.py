"""Tests that the bugs which `tests.delivery.planted` plants still fit the source. Change them together with the source."""

import pytest

from tests.crash.planting import ROOT, Plant
from tests.delivery.planted import PLANTS


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.what)
def test_planted_bug_replaces_one_place_and_compiles(plant: Plant) -> None:
    text = (ROOT / plant.file).read_text()
    assert text.count(plant.old) == 1
    compile(text.replace(plant.old, plant.new), plant.file, "exec")
