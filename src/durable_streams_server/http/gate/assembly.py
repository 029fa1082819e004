"""`make_gate`: assembles the gate of a handler from its settings."""

from __future__ import annotations

from collections.abc import Callable

from ...streams.engine import Engine
from ..browser import LOCAL
from ..limits.rates import Rates
from ..options import HandlerOptions
from ..request import Request
from ..targets import Targets
from .access import Access
from .append_limits import AppendLimits
from .credentials import Credentials
from .gate import Checks, Gate
from .hosts import HostCheck, HostNames, add_names_of_machine
from .origins import LocalOrigins, OriginCheck


def make_gate(options: HandlerOptions, engine: Engine, rates: Rates | None = None) -> Gate | None:
    """Returns the gate of a handler, or None if every request is admitted.

    Args:
        options: The settings of the handler.
        engine: Runs the streams.
        rates: Counts the appends of each client. None for a server without such limits.
    """
    control = options.access
    authenticator = control.authenticator
    checks, local_origins = _checks(options)
    if not checks and local_origins is None and authenticator is None and rates is None:
        return None
    targets = Targets(options.stream_root)
    access = None
    if authenticator is not None:
        credentials = Credentials(control.cookie, options.cors_origins)
        access = Access(authenticator, credentials, targets, engine.head, engine.clock.wall)
    limits = None if rates is None else AppendLimits(rates, targets.find)
    return Gate(checks, access, limits, engine.clock.wall, local_origins)


def _checks(options: HandlerOptions) -> tuple[Checks, LocalOrigins | None]:
    """Returns the checks of hosts and origins, and what recognises the origins of this machine, if a setting needs it."""
    control, origins = options.access, options.cors_origins
    hosts, has_local = control.allowed_hosts, LOCAL in origins
    checks: list[Callable[[Request], None]] = []
    local_origins = None
    if hosts is not None or has_local:
        names = HostNames(hosts or ())
        add_names_of_machine(names.add)
        if hosts is not None:
            checks.append(HostCheck(names))
        if has_local:
            local_origins = LocalOrigins(names)
    if control.refuse_foreign_writes and "*" not in origins:
        checks.append(OriginCheck(origins, local_origins))
    return tuple(checks), local_origins
