"""Request targets in every form that RFC 9112 allows."""

import pytest

from durable_streams_server.http.request_target import split_target


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a/b", b"/a/b", b""),
        (b"/a?x=1", b"/a", b"x=1"),
        (b"/a?", b"/a", b""),
        (b"/a?x=1?y", b"/a", b"x=1?y"),
        (b"/a#b?x=1", b"/a", b""),
        (b"/%61", b"/%61", b""),
    ],
)
def test_path_target_has_no_authority(target: bytes, path: bytes, query: bytes) -> None:
    assert split_target(target) == (path, query, None)


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (b"http://h/a?x", b"h"),
        (b"https://h:81/a?x", b"h:81"),
        (b"http://[::1]:81/a?x", b"[::1]:81"),
        (b"http://user@h/a?x", b"user@h"),
    ],
)
def test_absolute_url_names_its_authority(target: bytes, authority: bytes) -> None:
    assert split_target(target) == (b"/a", b"x", authority)


def test_absolute_url_without_path_has_root_path() -> None:
    assert split_target(b"http://h") == (b"/", b"", b"h")


@pytest.mark.parametrize(
    "target", [b"*", b"http://h:99999/a?signature=s", b"http://user:secret@h:99999/a"]
)
def test_target_that_is_no_url_names_no_stream_and_shows_no_secret(target: bytes) -> None:
    assert split_target(target) == (b"*", b"", None)
