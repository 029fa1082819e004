"""Converts between URLs and the decoded paths that identify streams. Routing, storage and the guard all use the one path that
`Targets` returns, so no two of them can disagree about which stream a request names (DESIGN, 11)."""

from functools import lru_cache
from typing import Final

from ..errors import NotFound
from ..protocol import paths
from ..protocol.limits import MAX_CONTROL_PATH_BYTES, MAX_PATH_BYTES
from ..protocol.names import HOST, OPERATIONS_PATHS, RESERVED_SEGMENT
from .request import Request

_CACHED_PATHS: Final = 4096


class Targets:
    """Decodes the paths of requests, relative to the application's mount.

    Args:
        stream_root: The path below which `__ds` is reserved.

    Attributes:
        root: The normalized stream root.
        reserved: The path below which the control routes are.
        find: Calls `_decode` through a cache, because many requests name the same path.
    """

    def __init__(self, stream_root: str) -> None:
        self.root = paths.normalize_root(stream_root)
        self.reserved = f"{self.root}/{RESERVED_SEGMENT}"
        self._control_root = self.reserved + "/"
        self.find = lru_cache(_CACHED_PATHS)(self._decode)

    def _decode(self, raw_path: bytes, root_path: str) -> tuple[str, bool]:
        """Returns the decoded path of a request below its mount, and whether the path is one of the server's own routes.

        Those are the control routes and `OPERATIONS_PATHS`.

        Raises:
            BadRequest: INVALID_PATH.
            NotFound: The path is reserved, or is that of the mount itself.
        """
        is_long = len(raw_path) > MAX_PATH_BYTES
        if is_long:
            path = paths.decode_path(raw_path, MAX_CONTROL_PATH_BYTES)
        else:
            path = paths.decode_path(raw_path)
        if root_path:
            path = _below_mount(path, root_path)
        if path in OPERATIONS_PATHS or path.startswith(self._control_root):
            return path, True
        if path == self.reserved:
            paths.refuse_reserved(path, self.root)
        if is_long:
            paths.check_path(path)
        return path, False

    def decode_source(self, raw: bytes, root_path: str) -> str:
        """Returns the path of a fork's source from the value of Stream-Forked-From.

        A mounted application accepts the path of the source's URL, and also the path below the mount.

        Raises:
            BadRequest: INVALID_PATH.
            NotFound: RESERVED_PATH.
        """
        path = paths.decode_path(raw)
        if root_path and path.startswith(root_path + "/"):
            path = path[len(root_path) :]
        paths.refuse_reserved(path, self.root)
        return path


def _below_mount(path: str, root_path: str) -> str:
    """Returns a path relative to the mount.

    Raises:
        NotFound: STREAM_NOT_FOUND, because the path is that of the mount itself.
    """
    if path.startswith(root_path):
        path = path[len(root_path) :]
        if not path.startswith("/") or path == "/":
            raise NotFound("this path names no stream", "STREAM_NOT_FOUND")
    return path


def location_of(request: Request, path: str) -> bytes:
    """Returns the URL of a stream, with the scheme, host and mount that the client used. Without a Host header, returns only the path."""
    url = paths.encode_url_path(request.root_path + path).encode("ascii")
    host = request.headers.get(HOST)
    return b"%s://%s%s" % (request.scheme.encode("ascii"), host, url) if host else url
