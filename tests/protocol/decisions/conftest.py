"""Fixtures for tests of decisions."""

import pytest

from tests.protocol.decisions.world import World


@pytest.fixture
def world() -> World:
    """Returns a world without streams."""
    return World()
