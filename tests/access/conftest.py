"""Fixtures that several tests of access control share."""

import pytest

from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.receivers import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that signs the certificates of key servers."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def loop_clock(monkeypatch: pytest.MonkeyPatch) -> LoopClock:
    """A clock that moves the time of the running event loop forward."""
    return LoopClock(monkeypatch)
