"""`make_gate`: assembles the gate of a handler from its settings."""

from __future__ import annotations

from ...streams.engine import Engine
from ..limits.rates import Rates
from ..options import HandlerOptions
from ..targets import Targets
from .access import Access
from .append_limits import AppendLimits
from .credentials import Credentials
from .gate import Gate
from .hosts import HostCheck, add_names_of_machine


def make_gate(options: HandlerOptions, engine: Engine, rates: Rates | None = None) -> Gate | None:
    """Returns the gate of a handler, or None if every request is admitted.

    Args:
        options: The settings of the handler.
        engine: Runs the streams.
        rates: Counts the appends of each client. None for a server without such limits.
    """
    control = options.access
    authenticator, hosts = control.authenticator, control.allowed_hosts
    if hosts is None and authenticator is None and rates is None:
        return None
    targets = Targets(options.stream_root)
    check_host = None
    if hosts is not None:
        check_host = HostCheck(hosts)
        add_names_of_machine(check_host.add)
    access = None
    if authenticator is not None:
        credentials = Credentials(control.cookie, options.cors_origins)
        access = Access(authenticator, credentials, targets, engine.head, engine.clock.wall)
    limits = None if rates is None else AppendLimits(rates, targets.find)
    return Gate(check_host, access, limits, engine.clock.wall)
