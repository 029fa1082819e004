"""`Settings`: the values of all settings of `serve`, as one immutable object with an attribute for each."""

import dataclasses
from collections.abc import Mapping
from typing import Final

import click

from ...http.browser import LOCAL
from ...http.gate.access_control import AccessControl
from ...http.serving.addresses import exposure_error
from ...http.serving.listening import is_loopback
from ...protocol.units import MIB
from ...storage.files.wal_sizes import DEFAULT_SIZE, size_for
from ...subscriptions.addresses import WebhookPolicy
from .access import Access
from .browsers import NO_ORIGIN, Browsers
from .clients import Clients
from .definition import Setting, Topic, options_of
from .limits import Limits
from .listening import Listening
from .observing import Observing
from .process import DEFAULT_DRAIN, Process
from .reads import Reads
from .sources import Sources
from .streams import Streams
from .webhooks import Webhooks

#: The topics, in the order in which the help, the example file and the docs list them.
TOPICS: Final[Mapping[str, type[Topic]]] = {
    "Listening": Listening,
    "Access": Access,
    "Streams": Streams,
    "Reads": Reads,
    "Limits": Limits,
    "Clients": Clients,
    "Browsers": Browsers,
    "Webhooks": Webhooks,
    "Observing": Observing,
    "Process": Process,
}
#: The options of each topic.
OPTIONS: Final[Mapping[str, tuple[Setting, ...]]] = {
    title: tuple(options_of(topic)) for title, topic in TOPICS.items()
}
#: The options of all topics, in the same order.
ALL: Final = tuple(option for options in OPTIONS.values() for option in options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(
    Listening, Access, Streams, Reads, Limits, Clients, Browsers, Webhooks, Observing, Process
):
    """The values of all settings. Without arguments, every setting has its default."""

    def check(self, sources: Sources) -> None:
        """Refuses values that contradict each other, in one topic or in several.

        Raises:
            click.UsageError: Values contradict each other, or the TLS certificate cannot be used.
        """
        for topic in TOPICS.values():
            topic.check(self, sources)
        exposure = exposure_error(
            self.host,
            sources.label("host"),
            is_unix=self.uds is not None,
            is_protected=bool(self.auth),
            is_open=self.no_auth,
        )
        if exposure is not None:
            raise click.UsageError(exposure)
        needed = self._wal_size_needed()
        if self.wal_size is not None and self.wal_size < needed:
            raise click.UsageError(
                f"{sources.label('wal_size')} {self.wal_size} is too small for "
                f"{sources.label('max_body')} {self.max_body}: it must be at least {needed}"
            )

    def wal_size_for_body(self) -> int:
        """Returns the size of the write-ahead log in bytes. A record of the largest body fits one of its segments."""
        if self.wal_size is not None:
            return self.wal_size
        return max(DEFAULT_SIZE, self._wal_size_needed())

    def access_control(self) -> AccessControl:
        """Returns who may reach the streams. Reads the files of tokens and keys.

        A server that is open to this machine alone checks the hosts and origins of requests. Otherwise a stranger's web page, which runs in
        a browser on this machine, could use the server.

        Raises:
            ValueError: A file cannot be read or is broken. The message names it.
        """
        is_for_machine = self._is_for_machine()
        hosts = self.allowed_host if self.allowed_host or is_for_machine else None
        return AccessControl(self.authenticator(), self.auth_cookie, hosts, is_for_machine)

    def cors_origins(self) -> tuple[str, ...]:
        """Returns the origins whose pages may use the server, for the argument `cors` of `create_app`."""
        if not self.cors_origin:
            return (LOCAL,) if self._is_for_machine() else ("*",)
        return () if self.cors_origin == (NO_ORIGIN,) else self.cors_origin

    def drain_seconds(self) -> float:
        """Returns the seconds of a drain. By default, streams in memory have none, because they end with the server anyway."""
        if self.drain is not None:
            return self.drain
        return 0.0 if self.memory else DEFAULT_DRAIN

    def webhook_policy(self) -> WebhookPolicy:
        """Returns where webhooks may go.

        By default, they may go to this machine if only this machine can reach the server. A server on a Unix socket does not allow that,
        because a proxy in front of the socket may let in other machines.
        """
        allows_loopback = self.webhook_allow_loopback
        if allows_loopback is None:
            allows_loopback = self.uds is None and is_loopback(self.host)
        return WebhookPolicy(allows_loopback, self.webhook_allow, self.webhook_deny)

    def _is_for_machine(self) -> bool:
        """Returns whether everyone on this machine may use the server, and nobody else can reach it."""
        return self.uds is None and is_loopback(self.host) and not self.auth

    def _wal_size_needed(self) -> int:
        """Returns the size of the smallest write-ahead log for the largest body, in bytes."""
        return size_for(self.max_body + MIB)  # a record is a body and its headers
