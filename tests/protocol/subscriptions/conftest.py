"""Fixtures for tests of subscriptions."""

import pytest

from tests.protocol.subscriptions.world import POOL, A, B, World


@pytest.fixture
def world() -> World:
    """Returns a world with three streams and no subscription."""
    made = World()
    made.streams(POOL, A, B)
    return made


@pytest.fixture
def woken(world: World) -> World:
    """Returns a world with a pull-wake subscription, woken by one value in `events/a`."""
    world.subscribe()
    world.append_to(A)
    return world


@pytest.fixture
def hooked(world: World) -> World:
    """Returns a world with a webhook subscription, woken by one value in `events/a`."""
    world.subscribe(type="webhook")
    world.append_to(A)
    return world
