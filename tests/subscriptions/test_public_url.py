"""Tests which URLs are accepted as the public URL of the server."""

import pytest

from durable_streams_server.subscriptions.public_url import check_public_url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "h.example/x",
        "//h",
        "ftp://h",
        "https://",
        "https:///x",
        "https://h?x",
        "https://h/#x",
        "https://user:secret@h",
        "https://h:99999",
        "https://h:x",
        "https://h\n.example",
        "https://h/a b",
    ],
)
def test_public_url_that_is_relative_or_has_credentials_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL") as caught:
        check_public_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://h", "HTTP://127.0.0.1:4437/x/", "https://[::1]:8/a-b/c"])
def test_public_url_with_port_and_path_loses_only_its_last_slash(url: str) -> None:
    assert check_public_url(url) == url.rstrip("/")
