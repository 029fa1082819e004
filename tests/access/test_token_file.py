"""Tests of the file of static tokens: what is written, who may read it, and how a broken file is refused."""

import fcntl
import json
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server.access import token_file
from durable_streams_server.access.static_tokens import StaticToken
from durable_streams_server.access.token_file import TokenFileError, add, load, remove
from durable_streams_server.protocol.permissions import TokenLimits, grant_of

GRANTS = (grant_of(["read", "append"], ["/v1/stream/chat/*"]), grant_of(["admin"], ["/**"]))


def numbered(number: int, **more: Any) -> StaticToken:
    """Returns a token with an id that contains a number."""
    return StaticToken(f"{number:012x}", bytes([number % 256]) * 32, GRANTS, **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file that does not exist yet."""
    return tmp_path / "tokens.json"


def test_added_tokens_are_loaded_as_they_were(path: Path) -> None:
    first = numbered(1)
    second = numbered(
        2,
        name="chät\u2028\tapp",
        created_at=1_700_000_000_123_000,
        expires_at=1_800_000_000_456_000,
        limits=TokenLimits(live_readers=5, body_bytes=2**53 - 1),
    )
    add(path, first)
    add(path, second)
    assert load(path) == (first, second)


def test_file_has_hashes_and_dates_in_readable_json(path: Path) -> None:
    add(path, numbered(1, name="chat", expires_at=1_800_000_000_000_000))
    assert json.loads(path.read_bytes()) == {
        "version": 1,
        "tokens": [
            {
                "id": "000000000001",
                "hash": "01" * 32,
                "streams": [
                    {"verbs": ["append", "read"], "paths": ["/v1/stream/chat/*"]},
                    {"verbs": ["admin"], "paths": ["/**"]},
                ],
                "created": "1970-01-01T00:00:00.000Z",
                "name": "chat",
                "expires": "2027-01-15T08:00:00.000Z",
            }
        ],
    }
    assert path.read_bytes().endswith(b"}\n")


def test_removed_token_is_gone_and_the_others_stay(path: Path) -> None:
    for number in range(3):
        add(path, numbered(number))
    assert remove(path, numbered(1).id)
    assert load(path) == (numbered(0), numbered(2))
    before = path.stat()
    assert not remove(path, numbered(1).id)
    assert path.stat().st_ino == before.st_ino  # nothing was written
    with pytest.raises(FileNotFoundError):
        remove(path.with_name("other.json"), "0" * 12)
    assert not path.with_name("other.json").exists()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_file_is_readable_by_its_owner_only(path: Path) -> None:
    old = os.umask(0)
    try:
        add(path, numbered(1))
        assert mode_of(path) == 0o600
        path.chmod(0o644)
        add(path, numbered(2))
        assert mode_of(path) == 0o640
        path.chmod(0o777)
        add(path, numbered(3))
        assert mode_of(path) == 0o660
    finally:
        os.umask(old)


def test_file_that_every_user_may_read_causes_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(path, numbered(1))
    path.chmod(0o640)
    load(path)
    assert caplog.records == []
    path.chmod(0o604)
    with caplog.at_level(logging.WARNING):
        load(path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: every user of this machine may use the file, whose hashes suffice to sign URLs; chmod 600 it"
    ]


def test_new_file_keeps_the_owner_and_the_group(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise root would take the file from the server's user with each new token."""
    add(path, numbered(1))
    given: list[tuple[int, int]] = []
    real = os.stat_result

    def other_owner(self: Path, **_: Any) -> os.stat_result:
        found = list(os.stat(self))
        found[stat.ST_UID], found[stat.ST_GID] = 12345, 54321
        return real(found)

    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", other_owner)
        add(path, numbered(2))
    assert given == [(12345, 54321)]
    add(path, numbered(3))
    assert len(given) == 1  # the owner is already the right one


def test_owner_that_cannot_be_kept_leaves_the_file_unchanged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(path, numbered(1))

    def refuse(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(OSError, match="Operation not permitted") as caught:
        add(path, numbered(2))
    assert caught.value.filename == str(path)
    assert load(path) == (numbered(1),)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    add(path, numbered(1))

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            add(path, numbered(2))
    assert load(path) == (numbered(1),)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_file_is_synced_before_it_replaces_the_old_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append(f"sync {kind}")
        sync(descriptor)

    def replaced(*paths: Path) -> None:
        done.append("replace")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    add(path, numbered(1))
    assert done == ["sync file", "replace", "sync directory"]


def test_symbolic_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "t.json"
    path.symlink_to(target)
    add(path, numbered(1))
    add(path, numbered(2))
    assert path.is_symlink()
    assert load(target) == (numbered(1), numbered(2))


def test_commands_that_change_the_file_at_once_lose_nothing(path: Path) -> None:
    threads = [threading.Thread(target=add, args=(path, numbered(number))) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.id for token in load(path)} == {numbered(number).id for number in range(20)}


def test_change_waits_for_the_lock_of_the_directory(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    thread = threading.Thread(target=add, args=(path, numbered(1)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert not path.exists()
    os.close(descriptor)
    thread.join()
    assert load(path) == (numbered(1),)


def test_second_token_with_an_id_is_refused(path: Path) -> None:
    add(path, numbered(1))
    with pytest.raises(TokenFileError, match="the file already has a token 000000000001"):
        add(path, numbered(1))
    assert load(path) == (numbered(1),)


def test_number_of_tokens_is_limited(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_file, "MAX_TOKENS", 2)
    add(path, numbered(1))
    add(path, numbered(2))
    assert len(load(path)) == 2
    with pytest.raises(TokenFileError, match="the file already has 2 tokens"):
        add(path, numbered(3))
    monkeypatch.setattr(token_file, "MAX_TOKENS", 1)
    with pytest.raises(TokenFileError, match=r"at \$.tokens: a file has at most 1 tokens"):
        load(path)


def test_size_of_the_file_is_limited(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(path, numbered(1))
    monkeypatch.setattr(token_file, "_MAX_BYTES", path.stat().st_size)
    assert load(path)
    monkeypatch.setattr(token_file, "_MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(TokenFileError, match="the file is larger than"):
        load(path)


SECRET = "hush-this-is-secret"
GOOD: dict[str, Any] = {
    "id": "0" * 12,
    "hash": "00" * 32,
    "streams": [{"verbs": ["read"], "paths": ["/**"]}],
    "created": "2026-01-01T00:00:00Z",
}


def document(*tokens: Any, **more: Any) -> str:
    return json.dumps({"version": 1, "tokens": tokens, **more})


def test_smallest_token_is_loaded(path: Path) -> None:
    path.write_text(document(GOOD))
    (token,) = load(path)
    assert token.id == "0" * 12
    assert token.expires_at is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is not JSON"),
        (SECRET, "it is not JSON"),
        (document(GOOD)[:-1], "it is not JSON"),
        ("[]", "expected object, got array"),
        ('{"tokens": []}', "object missing required field version"),
        ('{"version": 1}', "object missing required field tokens"),
        ('{"version": 2, "tokens": []}', "at $.version: only version 1 is known"),
        (document(**{SECRET: 1}), "there is a field that does not belong there"),
        (document(SECRET), "at $.tokens[0]: expected object, got str"),
        (
            document(GOOD, {**GOOD, "token": SECRET}),
            "at $.tokens[1]: there is a field that does not belong there",
        ),
        (
            document({**GOOD, "id": SECRET}),
            "at $.tokens[0]: the id is not 12 hexadecimal digits",
        ),
        (
            document({**GOOD, "hash": SECRET}),
            "at $.tokens[0]: the hash is not 64 hexadecimal digits",
        ),
        (
            document({**GOOD, "hash": "00" * 31}),
            "at $.tokens[0]: the hash is not 64 hexadecimal digits",
        ),
        (
            document({**GOOD, "created": SECRET}),
            "at $.tokens[0]: created is not an RFC 3339 timestamp",
        ),
        (
            document({**GOOD, "expires": SECRET}),
            "at $.tokens[0]: expires is not an RFC 3339 timestamp",
        ),
        (document({**GOOD, "streams": []}), "at $.tokens[0]: a token needs at least one grant"),
        (
            document({**GOOD, "streams": [{"verbs": [SECRET], "paths": ["/a"]}]}),
            "at $.tokens[0]: there is no such verb; the verbs are create, append, read, close,"
            " delete, fork, subscribe, admin",
        ),
        (
            document({**GOOD, "streams": [{"verbs": ["read"], "paths": [f"{SECRET}"]}]}),
            "at $.tokens[0]: a path must begin with a slash, as in /v1/stream/chat/*",
        ),
        (
            document({**GOOD, "limits": {"subscriptions": 0}}),
            "at $.tokens[0].limits: the limit subscriptions must be from 1 to 2^53 - 1",
        ),
        (
            document(GOOD, {**GOOD, "id": "1" * 12}, GOOD),
            "at $.tokens[2]: the token has the id of $.tokens[0]",
        ),
    ],
)
def test_broken_file_is_refused_in_one_line_with_the_place(
    path: Path, text: str, said: str
) -> None:
    path.write_text(text)
    actions: list[Callable[[], object]] = [
        lambda: load(path),
        lambda: add(path, numbered(7)),
        lambda: remove(path, "0" * 12),
    ]
    for action in actions:
        with pytest.raises(TokenFileError) as caught:
            action()
        assert str(caught.value) == f"{path}: {said}"
    assert path.read_text() == text


def test_file_that_is_not_utf_8_is_refused(path: Path) -> None:
    path.write_bytes(document({**GOOD, "name": "?"}).encode().replace(b"?", b"\xff"))
    with pytest.raises(TokenFileError, match=r"it is not (UTF-8|JSON)$"):
        load(path)


def test_missing_file_or_directory_raises_an_error_with_its_name(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokens\.json"):
        load(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        add(path.parent / "missing" / "tokens.json", numbered(1))
