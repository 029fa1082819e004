"""A process of several attackers: `python -m tests.hostile.worker PORT SECONDS NUMBER …`.

NUMBER is the index of a kind in `KINDS`. The process prints what each attacker has done, as JSON.
"""

import asyncio
import contextlib
import json
import os
import resource
import sys
import time

from .kinds import KINDS
from .wire import Attacker

GRACE = 10.0  # seconds after which an attacker that is still running is cancelled


async def attack(port: int, seconds: float, numbers: list[int]) -> list[Attacker]:
    """Runs the attackers with these numbers at once, and returns them when their time is over."""
    until = time.monotonic() + seconds
    attackers = [Attacker(port, number, until) for number in numbers]
    tasks = [
        asyncio.create_task(_attack(KINDS[number], attacker))
        for number, attacker in zip(numbers, attackers, strict=True)
    ]
    _, late = await asyncio.wait(tasks, timeout=seconds + GRACE)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return attackers


async def _attack(kind: object, attacker: Attacker) -> None:
    assert callable(kind)
    while attacker.goes_on:
        # The attacker keeps attacking whatever the server does.
        with contextlib.suppress(OSError, TimeoutError):
            await kind(attacker)


def main() -> None:
    """Runs the attackers that the command line names."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Real attackers have machines of their own and take no processor time from the server.
    os.nice(10)
    port, seconds, numbers = int(sys.argv[1]), float(sys.argv[2]), list(map(int, sys.argv[3:]))
    attackers = asyncio.run(attack(port, seconds, numbers))
    done = {
        KINDS[number].__name__: [attacker.rounds, dict(attacker.seen)]
        for number, attacker in zip(numbers, attackers, strict=True)
    }
    print(json.dumps(done))


if __name__ == "__main__":
    main()
