"""`AccessControl`: its values are checked when it is made."""

from typing import Any

import pytest

from durable_streams_server import AccessControl


def test_everyone_is_let_in_by_default() -> None:
    access = AccessControl()
    assert (access.authenticator, access.allowed_hosts) == (None, None)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"authenticator": "tokens.json"}, TypeError),
        ({"cookie": 5}, TypeError),
        ({"cookie": "a b"}, ValueError),
        ({"refuse_foreign_writes": "no"}, TypeError),
        ({"allowed_hosts": "localhost"}, TypeError),
        ({"allowed_hosts": [5]}, TypeError),
        ({"allowed_hosts": ["https://streams.example"]}, ValueError),
    ],
)
def test_invalid_value_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        AccessControl(**wrong)
