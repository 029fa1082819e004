"""The warning about several workers that keep streams in memory."""

import sys
from collections.abc import Iterator

import pytest

from durable_streams_server.http import siblings
from durable_streams_server.http.siblings import warn_of_siblings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")

ADDRESSES = [("198.51.100.7", 8000), (f"/run/{'x' * 95}.sock", None)]


@pytest.fixture(autouse=True)
def release_names() -> Iterator[None]:
    """Closes the sockets that each test has bound, so that other tests can bind their names."""
    yield
    for _, name in siblings._bound.values():
        name.close()
    siblings._bound.clear()


@pytest.mark.parametrize("address", ADDRESSES)
def test_second_worker_at_same_address_logs_warning(
    address: object, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_siblings(address)
    warn_of_siblings(address)
    assert not caplog.records
    others = dict(siblings._bound)
    siblings._bound.clear()  # as if this were another process
    warn_of_siblings(address)
    assert "another worker answers at" in caplog.text
    for _, name in others.values():
        name.close()
