"""Tests of paths, which are decoded once, refused if ambiguous, and encoded as file names."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest, NotFound
from durable_streams_server.protocol.limits import MAX_PATH_BYTES
from durable_streams_server.protocol.paths import (
    check_is_whole,
    check_path,
    decode_path,
    decode_stream_path,
    encode_stream_path,
    encode_url_path,
    normalize_mount,
    normalize_root,
    refuse_reserved,
)

segments = st.text(min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..") and "/" not in text and text.isprintable()
)
stream_paths = st.lists(segments, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/a", "/a"),
        (b"/v1/stream/a/b", "/v1/stream/a/b"),
        (b"/%61", "/a"),
        (b"/a%2Fb", "/a/b"),
        (b"/a%20b", "/a b"),
        (b"/caf%C3%A9", "/café"),
        (b"/a+b", "/a+b"),
        (b"/.hidden/...", "/.hidden/..."),
        (b"/a/", "/a/"),
        (b"/" + b"x" * (MAX_PATH_BYTES - 1), "/" + "x" * (MAX_PATH_BYTES - 1)),
        (b"/" + b"%78" * (MAX_PATH_BYTES - 1), "/" + "x" * (MAX_PATH_BYTES - 1)),
    ],
)
def test_path_is_decoded(raw: bytes, path: str) -> None:
    assert decode_path(raw) == path


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"/",
        b"a",
        b"/a%00",
        b"/a%0a",
        b"/%7f",
        b"/%ff",
        b"/%C3",
        b"/%zz",
        b"/%2",
        b"/%",
        b"/.",
        b"/a/../b",
        b"/%2e%2E/b",
        b"//a",
        b"/a//b",
        b"/" + b"x" * MAX_PATH_BYTES,
        b"/" + b"%C3%A9" * (MAX_PATH_BYTES // 2),
    ],
)
def test_ambiguous_path_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_path(raw)
    assert caught.value.code == "INVALID_PATH"


@given(stream_paths)
def test_encoded_path_decodes_to_itself(path: str) -> None:
    assert decode_path(encode_url_path(path).encode("ascii")) == check_path(path)


def test_path_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(BadRequest):
        check_path("/\ud800")


@pytest.mark.parametrize(
    "path",
    ["/v1/stream/__ds", "/v1/stream/__ds/subscriptions", "/healthz", "/readyz", "/metrics"],
)
def test_reserved_path_is_refused(path: str) -> None:
    with pytest.raises(NotFound) as caught:
        refuse_reserved(path, "/v1/stream")
    assert caught.value.code == "RESERVED_PATH"


@pytest.mark.parametrize("path", ["/v1/stream/__dsx", "/__ds", "/healthz/a", "/v1/stream/a/__ds"])
def test_path_similar_to_a_reserved_one_is_accepted(path: str) -> None:
    refuse_reserved(path, "/v1/stream")


@pytest.mark.parametrize(
    ("given_root", "root"),
    [
        ("/v1/stream", "/v1/stream"),
        ("v1/stream/", "/v1/stream"),
        ("//a//", "/a"),
        ("/", ""),
        ("", ""),
    ],
)
def test_slashes_around_the_stream_root_are_normalized(given_root: str, root: str) -> None:
    assert normalize_root(given_root) == root


@pytest.mark.parametrize("path", ["/a", "/v1/stream/chat", "/caf\u00e9", "/" + "x" * 149])
def test_short_path_is_encoded_as_unpadded_base64(path: str) -> None:
    encoded = encode_stream_path(path)
    assert encoded == base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")
    assert len(encoded) <= 200
    assert decode_stream_path(encoded) == path


def test_long_path_is_truncated_and_ends_in_its_hash() -> None:
    path = "/" + "y" * 400
    encoded = encode_stream_path(path)
    whole = base64.urlsafe_b64encode(path.encode()).decode()
    assert encoded == whole[:180] + "~" + hashlib.sha256(path.encode()).hexdigest()[:16]
    assert decode_stream_path(encoded) == path[:135]


@given(stream_paths)
def test_file_name_has_no_slash_and_decodes_to_a_short_path(path: str) -> None:
    encoded = encode_stream_path(path)
    assert "/" not in encoded
    if "~" not in encoded:
        assert decode_stream_path(encoded) == path


@pytest.mark.parametrize("name", ["a", "a/b", "YQ==", "~", "YQ~0123", "é"])
def test_malformed_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not an encoded"):
        decode_stream_path(name)


@pytest.mark.parametrize("path", ["", "chat", "a/b", " /a", "\\a"])
def test_relative_path_is_refused_with_a_helpful_message(path: str) -> None:
    for check in (check_is_whole, check_path):
        with pytest.raises(BadRequest, match="must begin with a slash") as refused:
            check(path)
        assert refused.value.code == "INVALID_PATH"


@pytest.mark.parametrize(
    ("root_path", "raw", "mount", "path"),
    [
        ("", b"/a", "", b"/a"),
        ("/", b"/a", "", b"/a"),
        ("/", b"//a", "", b"/a"),
        ("/x", b"/x/a", "/x", b"/x/a"),
        ("/x", b"/a", "/x", b"/a"),
        (
            "/x",
            b"/x//a",
            "/x",
            b"/x//a",
        ),  # the client's own empty segment stays, and is refused later
        ("/x/", b"/x//a", "/x", b"/x/a"),
        ("/x/", b"/x///a", "/x", b"/x//a"),
        ("/x/", b"/x/a", "/x", b"/x/a"),
        ("/x/", b"/a", "/x", b"/a"),
        ("x", b"x/a", "/x", b"/x/a"),
        ("x", b"/x/a", "/x", b"/x/a"),
        ("//x", b"//x/a", "/x", b"/x/a"),
        ("/x//y/", b"/x//y//a", "/x/y", b"/x/y/a"),
        ("/caf\xe9/", "/caf\xe9//a".encode(), "/caf\xe9", b"/caf%C3%A9/a"),
        ("/x/", b"/x/", "/x", b"/x/"),
        ("/x/", b"", "/x", b""),
    ],
)
def test_slashes_in_the_root_path_are_normalized(
    root_path: str, raw: bytes, mount: str, path: bytes
) -> None:
    assert normalize_mount(root_path, raw) == (mount, path)
