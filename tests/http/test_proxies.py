"""Which peers are trusted as proxies, so that the server uses their headers about the client."""

from typing import Any

import pytest

from durable_streams_server.http.proxies import is_trusted
from tests.http.socket_driver import Wire


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (("127.0.0.1", 1), True),
        (("::1", 1, 0, 0), True),
        ("", True),
        (None, True),
        (("127.0.0.2", 1), False),
        (("10.0.0.1", 1), False),
        (("::2", 1, 0, 0), False),
    ],
)
async def test_only_peers_on_this_machine_are_trusted(peer: Any, trusted: bool) -> None:
    assert is_trusted(Wire(peer, tls=False)) is trusted
