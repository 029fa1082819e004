"""The file of static tokens: reads it, and changes it for the `token` commands.

    {"version": 1, "tokens": [{"id": "…", "hash": "…", "name": "…", "created": "…", "expires": "…", "streams": […], "limits": {…}}]}

A change writes a new file beside the old one and renames it, so a server that loads the file at any moment sees a whole one. The new
file is readable by its owner only. Two commands that change the file at once wait for each other.

The time at which a token was last used is not in the file, because the server would have to write the file for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from ..errors import BadRequest
from ..log import log as _log
from ..protocol.lifetime import parse_lifetime, timestamp
from ..protocol.permissions import NO_LIMITS, TokenLimits
from .documents import GrantDocument, from_grants, place_of, to_grants
from .static_tokens import StaticToken, is_token_id

#: Maximum tokens of a file, because a reload reads them in one step of about 100 ms. More clients can use JSON Web Tokens.
MAX_TOKENS: Final = 5_000
#: Maximum bytes of a token file.
_MAX_BYTES: Final = 64 * 1024 * 1024

_VERSION: Final = 1
_HASH_BYTES: Final = 32
_OWNER_ONLY: Final = 0o600


class TokenFileError(ValueError):
    """A token file is broken. The message names the file and the place in it."""


class _TokenDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A token as it is written in the file. The dates are RFC 3339 timestamps, and the hash is hexadecimal."""

    id: str
    hash: str
    streams: list[GrantDocument]
    created: str
    name: str = ""
    expires: str | None = None
    limits: TokenLimits = NO_LIMITS


class _FileDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    version: int
    tokens: list[_TokenDocument]


def load(path: Path) -> tuple[StaticToken, ...]:
    """Returns the tokens of a file, in the order of the file. Logs a warning if other users of the machine may read the file.

    Raises:
        TokenFileError: the file is broken.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(_MAX_BYTES + 1)
    if mode & stat.S_IRWXO and stat.S_ISREG(mode):
        _log.warning(
            "%s: every user of this machine may use the file, whose hashes suffice to sign URLs; chmod 600 it",
            path,
        )
    if len(data) > _MAX_BYTES:
        raise TokenFileError(f"{path}: the file is larger than {_MAX_BYTES} bytes")
    return _decode(path, data)


def add(path: Path, token: StaticToken) -> None:
    """Adds a token to a file, and creates the file if there is none.

    Raises:
        TokenFileError: the file is broken or full, or has a token with this id.
        OSError: the file cannot be read or written.
    """

    def change(tokens: tuple[StaticToken, ...]) -> tuple[StaticToken, ...]:
        if len(tokens) >= MAX_TOKENS:
            raise TokenFileError(f"{path}: the file already has {MAX_TOKENS} tokens")
        if any(each.id == token.id for each in tokens):
            raise TokenFileError(f"{path}: the file already has a token {token.id}")
        return (*tokens, token)

    _change(path, change, creates=True)


def remove(path: Path, id_: str) -> bool:
    """Removes a token from a file. Returns False if the file has no token with this id.

    Raises:
        TokenFileError: the file is broken.
        OSError: the file cannot be read or written.
    """
    removed = False

    def change(tokens: tuple[StaticToken, ...]) -> tuple[StaticToken, ...] | None:
        nonlocal removed
        kept = tuple(each for each in tokens if each.id != id_)
        removed = len(kept) < len(tokens)
        return kept if removed else None

    _change(path, change, creates=False)
    return removed


def _change(
    path: Path,
    change: Callable[[tuple[StaticToken, ...]], tuple[StaticToken, ...] | None],
    *,
    creates: bool,
) -> None:
    """Replaces the tokens of a file by those that `change` returns, or by none if it returns None."""
    real = Path(os.path.realpath(path))  # renaming onto a symbolic link would replace the link
    with _locked(real.parent):
        try:
            before: os.stat_result | None = real.stat()
            tokens = load(path)
        except FileNotFoundError:
            if not creates:
                raise
            before, tokens = None, ()
        changed = change(tokens)
        if changed is not None:
            _write(real, _encode(changed), before)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks a directory for the commands that change a token file in it. A lock of the file itself would end with its replacement."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, before: os.stat_result | None) -> None:
    """Replaces a file durably. Only the owner may use the new file, and the group if it could use the old one.

    Args:
        path: the file, which is no symbolic link.
        data: the new content.
        before: the status of the old file, or None if there is none.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _OWNER_ONLY)
    try:
        with open(descriptor, "wb") as file:
            if before is not None:
                _take_over(descriptor, before, path)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _take_over(descriptor: int, before: os.stat_result, path: Path) -> None:
    """Gives a new file the owner, the group and the permissions of the group that the old one had.

    Raises:
        OSError: this process may not do that. The message names the file.
    """
    try:
        now = os.fstat(descriptor)
        if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
            os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, _OWNER_ONLY | before.st_mode & stat.S_IRWXG & ~stat.S_IXGRP)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _encode(tokens: tuple[StaticToken, ...]) -> bytes:
    """Returns the content of a file."""
    documents = [
        _TokenDocument(
            token.id,
            token.hash.hex(),
            from_grants(token.grants),
            timestamp(token.created_at),
            token.name,
            None if token.expires_at is None else timestamp(token.expires_at),
            token.limits,
        )
        for token in tokens
    ]
    return msgspec.json.format(msgspec.json.encode(_FileDocument(_VERSION, documents))) + b"\n"


def _decode(path: Path, data: bytes) -> tuple[StaticToken, ...]:
    """Returns the tokens in the content of a file.

    Raises:
        TokenFileError: the file is broken.
    """
    try:
        document = msgspec.json.decode(data, type=_FileDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        what = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else place_of(error)
        raise TokenFileError(f"{path}: {what}") from None
    if document.version != _VERSION:
        raise TokenFileError(f"{path}: at $.version: only version {_VERSION} is known")
    if len(document.tokens) > MAX_TOKENS:
        raise TokenFileError(f"{path}: at $.tokens: a file has at most {MAX_TOKENS} tokens")
    places: dict[str, int] = {}
    tokens = []
    for number, each in enumerate(document.tokens):
        try:
            token = _checked(each)
            if (first := places.setdefault(token.id, number)) != number:
                raise ValueError(f"the token has the id of $.tokens[{first}]")
        except ValueError as error:
            raise TokenFileError(f"{path}: at $.tokens[{number}]: {error}") from None
        tokens.append(token)
    return tuple(tokens)


def _checked(document: _TokenDocument) -> StaticToken:
    """Returns the token of a document, after checking it.

    Raises:
        ValueError: a part of it is invalid. The message says which and quotes nothing.
    """
    if not is_token_id(document.id):
        raise ValueError("the id is not 12 hexadecimal digits")
    try:
        hash_ = bytes.fromhex(document.hash)
    except ValueError:
        hash_ = b""
    if len(hash_) != _HASH_BYTES:
        raise ValueError("the hash is not 64 hexadecimal digits")
    created = _time("created", document.created)
    expires = None if document.expires is None else _time("expires", document.expires)
    grants = to_grants(document.streams)
    return StaticToken(document.id, hash_, grants, document.name, created, expires, document.limits)


def _time(name: str, text: str) -> int:
    """Returns a timestamp in microseconds since 1970.

    Raises:
        ValueError: the text is no timestamp.
    """
    try:
        found = parse_lifetime(None, text).expires_at
    except BadRequest:
        raise ValueError(f"{name} is not an RFC 3339 timestamp") from None
    assert found is not None
    return found
