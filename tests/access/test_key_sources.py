"""Tests of the sources of keys: when they fetch, who waits for it, and what stays when a fetch fails."""

import asyncio
import gc
from pathlib import Path

import pytest

from durable_streams_server.access.fetch import FetchFailed
from durable_streams_server.access.key_sources import (
    REFRESH_SECONDS,
    RETRY_SECONDS,
    UNKNOWN_KEY_SECONDS,
    KeyFile,
    KeyUrl,
    check_key_url,
)
from tests.access.key_server import key_server, ok
from tests.access.provider import usual_key_set
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.services import run_turns

ONE, OTHER = usual_key_set("one"), usual_key_set("other")
URL = "https://login.example/keys?hush=1"


class Provider:
    """A provider whose answers the test gives.

    Attributes:
        answer: the next answers: a document, or an exception.
        fetches: the number of fetches that have begun.
        hold: is cleared to make the provider wait.
        changes: the number of changes that the source has reported.
        source: the source that fetches from this provider.
    """

    def __init__(self) -> None:
        self.answer: bytes | Exception = ONE
        self.fetches = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.changes = 0
        self.source = KeyUrl(URL, self._changed, self._fetch)

    def has(self, kid: str) -> bool:
        """Returns whether the source has a key."""
        return self.source.keys is not None and self.source.keys.find(kid, "EdDSA") is not None

    def _changed(self) -> None:
        self.changes += 1

    async def _fetch(self) -> bytes:
        self.fetches += 1
        await self.hold.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def started(answer: bytes | Exception = ONE) -> Provider:
    """Returns a provider whose source has fetched once."""
    provider = Provider()
    provider.answer = answer
    provider.source.start()
    await run_turns()
    return provider


async def test_keys_are_fetched_at_the_start_and_every_five_minutes(loop_clock: LoopClock) -> None:
    provider = await started()
    assert (provider.fetches, provider.changes, provider.has("one")) == (1, 1, True)
    await loop_clock.forward(REFRESH_SECONDS - 1)
    assert provider.fetches == 1
    provider.answer = OTHER
    await loop_clock.forward(1)
    assert (provider.fetches, provider.changes) == (2, 2)
    assert (provider.has("one"), provider.has("other")) == (False, True)
    await loop_clock.forward(REFRESH_SECONDS)
    assert (provider.fetches, provider.changes) == (3, 2)  # the same keys are no change
    await provider.source.aclose()


async def test_failed_fetch_keeps_the_keys_and_is_repeated_soon(loop_clock: LoopClock) -> None:
    provider = await started()
    for broken in (FetchFailed("it is down"), b"hush", b'{"keys": []}'):
        provider.answer = broken
        await loop_clock.forward(REFRESH_SECONDS)
        before = provider.fetches
        assert provider.has("one")
        await loop_clock.forward(RETRY_SECONDS - 1)
        assert provider.fetches == before
        provider.answer = ONE
        await loop_clock.forward(1)
        assert provider.fetches == before + 1
    assert provider.changes == 1
    await provider.source.aclose()


async def test_failures_are_logged_once_a_minute_without_the_query(
    loop_clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    provider = await started(FetchFailed("it is down"))
    shown = "the keys at https://login.example/keys could not be fetched, so"
    assert caplog.messages == [f"{shown} no token of this provider is accepted: it is down"]
    for _ in range(5):
        await loop_clock.forward(RETRY_SECONDS)
    assert (provider.fetches, len(caplog.messages)) == (6, 1)
    await loop_clock.forward(RETRY_SECONDS)
    assert (provider.fetches, len(caplog.messages)) == (7, 2)
    provider.answer = ONE
    await loop_clock.forward(RETRY_SECONDS)
    provider.answer = b"hush"
    await loop_clock.forward(REFRESH_SECONDS)
    assert caplog.messages[2:] == [f"{shown} the old keys stay in use: it is not JSON"]
    await provider.source.aclose()


async def test_unknown_key_fetches_at_most_every_30_seconds(loop_clock: LoopClock) -> None:
    provider = await started()
    assert provider.source.refreshed() is None
    await loop_clock.forward(UNKNOWN_KEY_SECONDS - 1)
    assert provider.source.refreshed() is None
    await loop_clock.forward(1)
    provider.answer = OTHER
    ticket = provider.source.refreshed()
    assert ticket is not None
    assert not ticket.done
    await run_turns()
    assert ticket.done
    assert provider.has("other")
    assert provider.source.refreshed() is None
    assert provider.fetches == 2
    await loop_clock.forward(REFRESH_SECONDS - 1)
    assert provider.fetches == 2  # the five minutes begin again with each fetch
    await loop_clock.forward(1)
    assert provider.fetches == 3
    await provider.source.aclose()


async def test_without_any_keys_the_next_fetch_may_begin_after_ten_seconds(
    loop_clock: LoopClock,
) -> None:
    provider = await started(FetchFailed("it is down"))
    assert provider.source.refreshed() is None
    provider.hold.clear()
    await loop_clock.forward(RETRY_SECONDS)
    assert provider.source.refreshed() is not None
    assert provider.fetches == 2
    await provider.source.aclose()


async def test_all_requests_wait_for_the_same_fetch() -> None:
    provider = Provider()
    provider.hold.clear()
    provider.source.start()
    tickets = [provider.source.refreshed() for _ in range(5)]
    await run_turns()
    assert provider.fetches == 1
    waiting = [ticket for ticket in tickets if ticket is not None]
    assert [ticket.done for ticket in waiting] == [False] * 5
    waiting[1].cancel()
    provider.hold.set()
    await run_turns()
    assert [ticket.done for ticket in waiting] == [True] * 5
    assert provider.fetches == 1
    await provider.source.aclose()


async def test_request_that_ends_another_one_does_no_harm() -> None:
    """A callback of one ticket may cancel another ticket that waits for the same fetch."""
    provider = Provider()
    provider.hold.clear()
    provider.source.start()
    first, second = provider.source.refreshed(), provider.source.refreshed()
    assert first is not None
    assert second is not None
    first.add_callback(lambda _: second.cancel())
    provider.hold.set()
    await run_turns()
    assert first.done
    assert second.done
    await provider.source.aclose()


async def test_waiting_requests_go_on_when_a_fetch_fails_or_the_server_stops() -> None:
    provider = Provider()
    provider.answer = FetchFailed("it is down")
    provider.source.start()
    ticket = provider.source.refreshed()
    assert ticket is not None
    await run_turns()
    assert ticket.result() is None
    provider.hold.clear()
    for turns in (0, 5):  # before and after the fetch has begun
        provider.source.start()
        waiting = provider.source.refreshed()
        assert waiting is not None
        await run_turns(turns)
        await provider.source.aclose()
        assert waiting.result() is None


async def test_closed_source_fetches_no_more(loop_clock: LoopClock) -> None:
    provider = await started()
    await provider.source.aclose()
    await loop_clock.forward(REFRESH_SECONDS * 2)
    assert provider.source.refreshed() is None
    provider.source.reload()
    await run_turns()
    assert provider.fetches == 1
    await provider.source.aclose()


async def test_source_that_has_not_started_fetches_nothing() -> None:
    provider = Provider()
    assert provider.source.refreshed() is None
    provider.source.reload()
    await run_turns()
    assert provider.fetches == 0


async def test_reload_fetches_at_once_unless_a_fetch_is_running() -> None:
    provider = await started()
    provider.hold.clear()
    provider.source.reload()
    provider.source.reload()
    await run_turns()
    assert provider.fetches == 2
    await provider.source.aclose()


async def test_bug_in_a_fetch_is_reported_and_does_not_end_the_refreshes(
    loop_clock: LoopClock,
) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(context["exception"])
    )
    bug = RuntimeError("a bug")
    provider = await started(bug)
    gc.collect()
    assert reported == [bug]
    provider.answer = ONE
    await loop_clock.forward(RETRY_SECONDS)
    assert provider.has("one")
    await provider.source.aclose()


async def test_keys_come_over_the_network() -> None:
    async with key_server(ok(ONE)) as server:
        changed = asyncio.Event()
        source = KeyUrl(f"http://127.0.0.1:{server.port}/keys", changed.set)
        source.start()
        await changed.wait()
        assert source.keys is not None
        assert source.keys.find("one", "EdDSA") is not None
        await source.aclose()


def test_https_source_verifies_certificates() -> None:
    assert KeyUrl("https://login.example/keys", lambda: None).keys is None


async def test_key_file_is_read_at_the_start_and_at_each_reload(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(ONE)
    changes: list[int] = []
    source = KeyFile(path, lambda: changes.append(1))
    source.start()
    assert source.keys.find("one", "EdDSA") is not None
    path.write_bytes(OTHER)
    assert source.refreshed() is None
    assert source.keys.find("other", "EdDSA") is None
    source.reload()
    assert source.keys.find("other", "EdDSA") is not None
    source.reload()
    assert len(changes) == 1
    await source.aclose()


def test_broken_key_file_is_refused_and_keeps_the_old_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ValueError, match=r"keys\.json: No such file or directory"):
        KeyFile(path, lambda: None)
    path.write_bytes(b"hush")
    with pytest.raises(ValueError, match=r"keys\.json: it is not JSON"):
        KeyFile(path, lambda: None)
    path.write_bytes(ONE)
    source = KeyFile(path, lambda: None)
    path.write_bytes(b'{"keys": [{}]}')
    with pytest.raises(ValueError, match=r"keys\.json: it has no public key"):
        source.reload()
    assert source.keys.find("one", "EdDSA") is not None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://login.example/keys", "https://login.example/keys"),
        ("https://login.example:8443/keys?a=b", "https://login.example:8443/keys"),
        ("HTTPS://Login.example", "https://login.example"),
        ("http://localhost:1/keys", "http://localhost:1/keys"),
        ("http://127.9.9.9/keys", "http://127.9.9.9/keys"),
        ("http://[::1]:81/keys", "http://[::1]:81/keys"),
    ],
)
def test_https_url_and_http_url_of_this_machine_are_allowed(url: str, shown: str) -> None:
    assert check_key_url(url) == shown


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://login.example/keys", "or http:// on this machine"),
        ("http://10.0.0.1/keys", "or http:// on this machine"),
        ("http://localhost.example/keys", "or http:// on this machine"),
        ("ftp://localhost/keys", "or http:// on this machine"),
        ("https://user:hush@login.example/", "neither a password nor a fragment"),
        ("https://login.example/#hush", "neither a password nor a fragment"),
        ("https:///keys", "must be https://, a host and a path"),
        ("https://login.example:hush/", "must be https://, a host and a path"),
        ("https://login.example:99999/", "must be https://, a host and a path"),
        ("https://[::1/keys", "must be https://, a host and a path"),
        ("https://login.example/h ush", "must be https://, a host and a path"),
        ("https://login.example/\x7f", "must be https://, a host and a path"),
        ("https://l\u00f6gin.example/", "must be https://, a host and a path"),
        ("keys.json", "must be https://, a host and a path"),
    ],
)
def test_other_url_is_refused_without_quoting_it(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        check_key_url(url)
    assert "hush" not in str(caught.value)
