"""Raises the limit on open files, which also limits the number of connections."""

import sys
from typing import Final

from ..log import log as _log

if sys.platform != "win32":
    import resource

#: Limits to ask for, highest first. On Linux, the kernel's default maximum is 1 Mi. Memory suffices for a few hundred thousand connections
#: at most. A system that refuses one limit may grant a lower one.
_WISHES: Final = (1 << 20, 1 << 16, 10_240)


def raise_file_limit() -> None:
    """Raises the limit on open files as far as the system allows. Shells set it to 1024, for programs that use `select`."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wish in _WISHES:
        target = wish if hard == resource.RLIM_INFINITY else min(wish, hard)
        if soft == resource.RLIM_INFINITY or soft >= target:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        except (ValueError, OSError):
            continue  # macOS refuses its own hard limit and grants only a lower one
        _log.info("at most %d files and connections may be open (the limit was %d)", target, soft)
        return
    _log.info("at most %d files and connections may be open", soft)
