"""Plants delivery bugs, one at a time, in a copy of the source, and checks that the hunt finds each of them.

`python -m tests.delivery.planted [RULE…]` prints a table, as `tests.crash.planted` does. The run fails if the hunt misses a bug.
"""

import sys

from tests.crash.planting import PACKAGE, Plant, plant_all

RULES = f"{PACKAGE}/protocol/subscriptions"
SERVICE = f"{PACKAGE}/subscriptions"
SEEDS = 150
HUNT = ("tests.delivery.hunt", "0", str(SEEDS), "--first")

PLANTS = [
    Plant(
        6,
        "a wake whose delivery has failed is not scheduled again",
        f"{RULES}/steps.py",
        "    if wake.next_attempt is not None:\n",
        "    if wake.next_attempt is not None and not wake.attempts:\n",
    ),
    Plant(
        4,
        "a token of an earlier generation is accepted",
        f"{RULES}/workers.py",
        "        or grant.generation != generation\n"
        "        or command.generation != generation\n"
        "        or command.wake_id != wake.wake_id\n"
        '        or grant.wake_id not in ("", wake.wake_id)\n',
        "",
    ),
    Plant(
        5,
        "a claim ignores the lease",
        f"{RULES}/workers.py",
        "    if wake.holder is not None:\n        if not wake.is_over",
        "    if False:\n        if not wake.is_over",
    ),
    Plant(
        2,
        "the end of a wake acknowledges the newest tails instead of those in its snapshot",
        f"{RULES}/workers.py",
        "None if position == state.tail else offset)",
        "None)",
    ),
    Plant(
        2,
        "an acknowledgement moves only the first of several cursors",
        f"{RULES}/state.py",
        "        for path, offset in change.cursors:\n",
        "        for path, offset in change.cursors[:1]:\n",
    ),
    Plant(
        1,
        "a start loses one of the cursors in the catalog",
        f"{RULES}/documents.py",
        "    subscription.due = kept.due\n",
        "    subscription.due = dict(list(kept.due.items())[1:])\n",
    ),
    Plant(
        5,
        "a heartbeat does not renew the lease",
        f"{RULES}/workers.py",
        "        wake,\n        lease_until=lease_end(subscription, context.now),\n",
        "        wake,\n        lease_until=wake.lease_until or lease_end(subscription, context.now),\n",
    ),
    Plant(
        3,
        "a retry lists the present tails under the same wake id",
        f"{RULES}/deliveries.py",
        "        snapshot=snapshot,\n        reason=command.problem,\n",
        "        snapshot=None,\n        reason=command.problem,\n",
    ),
    Plant(
        3,
        "wake ids do not name the opening of the store",
        "src/durable_streams_server/storage/store.py",
        "    return secrets.token_hex(6)\n",
        '    return "0"\n',
    ),
    Plant(
        7,
        "wakes without progress follow each other without a delay",
        f"{RULES}/steps.py",
        "    if fruitless <= _AT_ONCE:\n",
        "    if fruitless <= 1_000_000:\n",
    ),
    Plant(
        9,
        "a heartbeat does not extend the wait for the answer",
        f"{SERVICE}/service.py",
        "            self._deliveries.extend(wake.wake_id, left)\n",
        "            pass\n",
    ),
    Plant(
        6,
        "a start does not schedule the wakes in flight",
        f"{SERVICE}/service.py",
        "                self.schedule_next_step(subscription.id)\n        self.schedule.start",
        "                pass\n        self.schedule.start",
    ),
]


if __name__ == "__main__":
    sys.exit(min(plant_all(PLANTS, HUNT, sys.argv[1:]), 1))
