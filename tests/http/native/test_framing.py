"""The rules about heads that llhttp leaves to its caller."""

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.http.native.framing import (
    check_old_version,
    expects_continue,
    head_with_same_framing,
)
from durable_streams_server.http.request import Request


def test_http_1_0_is_accepted_without_transfer_coding() -> None:
    check_old_version("1.0", {b"content-length": b"5"})
    with pytest.raises(BadRequest) as caught:
        check_old_version("1.0", {b"transfer-encoding": b"chunked"})
    assert caught.value.code == "INVALID_HTTP"


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0"])
def test_other_http_versions_are_refused(version: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_old_version(version, {})
    assert caught.value.code == "INVALID_HTTP"


def test_head_with_same_framing_has_only_framing_headers() -> None:
    headers = {b"upgrade": b"h2c", b"content-length": b"5"}
    assert head_with_same_framing(headers, keep_alive=True) == (
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n"
    )
    assert head_with_same_framing({b"transfer-encoding": b"chunked"}, keep_alive=False) == (
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("headers", "declared", "expected"),
    [
        ({b"expect": b"100-Continue"}, 5, True),
        ({b"expect": b"100-continue", b"transfer-encoding": b"chunked"}, None, True),
        ({b"expect": b"100-continue"}, 0, False),
        ({b"expect": b"100-continue"}, None, False),
        ({b"expect": b"something"}, 5, False),
    ],
)
def test_expects_continue_is_true_only_for_requests_with_a_body(
    headers: dict[bytes, bytes], declared: int | None, expected: bool
) -> None:
    request = Request("POST", b"/a", b"", headers, declared=declared)
    assert expects_continue(request) is expected
