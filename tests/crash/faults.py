"""Draws the fault that a simulated disk will have, and the call at which it strikes."""

import errno
import os

from durable_streams_server.testing.disk import PowerLoss, SimulatedDisk

KINDS = ("none", "power", "power", "power", "error", "full", "handles")
#: The calls that a full disk refuses.
GROWING = {"open", "write", "allocate", "catalog begin", "catalog commit"}


def no_fault(_: str) -> None:
    """Lets a disk call succeed."""


def plan_fault(disk: SimulatedDisk, within: int) -> str:
    """Makes a disk fail at one of its next calls, or not at all, and returns the kind of the fault.

    Args:
        disk: the disk.
        within: the number of calls among which the fault strikes.
    """
    chance = disk.chance
    kind = chance.choice(KINDS)
    at = disk.calls + chance.randint(1, within)
    length = chance.randint(1, 30)

    def before(name: str) -> None:
        calls = disk.calls
        if kind == "power" and calls == at:
            raise PowerLoss
        if kind == "error" and calls == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        if kind == "full" and at <= calls < at + length and name in GROWING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        if kind == "handles" and at <= calls < at + length and name == "open":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)

    disk.before = before
    return kind
