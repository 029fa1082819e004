"""Settings of what one client may take, and of the proxies that name clients. docs/limits.md has the reasons."""

import dataclasses
from typing import Final

import click

from ...http.limits.client_limits import (
    DEFAULT_MAX_LIVE_READERS,
    DEFAULT_MAX_LIVE_READERS_PER_CLIENT,
    DEFAULT_MAX_LIVE_READERS_PER_STREAM,
    DEFAULT_MAX_SUBSCRIPTIONS_PER_TOKEN,
    ClientLimits,
)
from ...http.proxies import TrustedProxies
from ..values import Checked, Size
from .definition import Topic, setting

_COUNT: Final = click.IntRange(min=1)
#: Maximum value of `--max-bytes-per-second`. No network is faster.
_FASTEST: Final = 1 << 40


def _check_proxy(name: str) -> None:
    TrustedProxies([name])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clients(Topic):
    """What one client may take. A client is a token, or the address of clients without a token."""

    max_live_readers: int = setting(
        DEFAULT_MAX_LIVE_READERS,
        "Live reads (long-polls and event streams) that run at once; a further one is refused with 503.",
        kind=_COUNT,
        metavar="COUNT",
    )
    max_live_readers_per_stream: int = setting(
        DEFAULT_MAX_LIVE_READERS_PER_STREAM,
        "Live reads of one stream that run at once; past it, 429.",
        kind=_COUNT,
        metavar="COUNT",
    )
    max_live_readers_per_client: int = setting(
        DEFAULT_MAX_LIVE_READERS_PER_CLIENT,
        "Live reads of one client that run at once; past it, 429.",
        kind=_COUNT,
        metavar="COUNT",
    )
    max_appends_per_second: int | None = setting(
        None,
        "Appends and creates of one client in a second. A client may send those of five seconds at once; past it, 429.",
        kind=_COUNT,
        metavar="COUNT",
        unset="no limit",
        example=100,
    )
    max_bytes_per_second: int | None = setting(
        None,
        "Bytes of appends and creates of one client in a second. A client may send those of five seconds at once; past it, 429.",
        kind=Size(1, _FASTEST),
        unset="no limit",
        example="1m",
    )
    max_subscriptions_per_token: int = setting(
        DEFAULT_MAX_SUBSCRIPTIONS_PER_TOKEN,
        "Subscriptions that one token may have created, unless the token has a limit of its own; past it, 429.",
        kind=_COUNT,
        metavar="COUNT",
    )
    trusted_proxy: tuple[str, ...] = setting(
        (),
        "Proxy that names the address and the scheme of its clients in X-Forwarded-For and X-Forwarded-Proto, or in Forwarded: an IP address, "
        "a network, or 'unix' for peers on a Unix socket; may be repeated. Without it, peers on this machine name the scheme only.",
        kind=Checked("proxy", _check_proxy),
        metavar="ADDRESS|NETWORK|unix",
    )

    def client_limits(self) -> ClientLimits:
        """Returns the limits, for the argument `limits` of `create_app`."""
        return ClientLimits(
            max_live_readers=self.max_live_readers,
            max_live_readers_per_stream=self.max_live_readers_per_stream,
            max_live_readers_per_client=self.max_live_readers_per_client,
            max_appends_per_second=self.max_appends_per_second,
            max_bytes_per_second=self.max_bytes_per_second,
            max_subscriptions_per_token=self.max_subscriptions_per_token,
        )

    def trusted_proxies(self) -> TrustedProxies:
        """Returns the trusted proxies, for `Admission`."""
        return TrustedProxies(self.trusted_proxy)
