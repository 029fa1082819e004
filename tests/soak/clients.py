"""A process of clients: `python -m tests.soak.clients KIND PORT SEED`.

KIND is a name in `KINDS`. The process reads lines from its input: `stop` or `kill` before the server goes down, `up` when it runs again, and
`over` when the clients must stop. It answers each line with `ok`, and prints `ok` when it has begun. After `over`, the clients check what they
have written and delete it, and the process prints its counts and the faults of the server as JSON.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable

from tests.crash.clients import GONE, ask
from tests.soak.deliveries import Deliveries
from tests.soak.expiring import Expiring
from tests.soak.readers import CatchUp, EventReader, LongPoller, Reader
from tests.soak.remote import TIMEOUT, Connection, Remote
from tests.soak.visitors import LIVE, MEDIA, PAGES, Visitors
from tests.soak.writers import Batches, Churn, LargeBodies, Producer

Run = Callable[[], None]
Finish = Callable[[Connection], None]
PRODUCERS = 3  # in each process of producers
MIB = 1024 * 1024


def produce(remote: Remote, seed: str, name: str) -> tuple[list[Run], list[Finish]]:
    """Returns producers, and readers of each of their streams."""
    runs: list[Run] = []
    ends: list[Finish] = []
    kinds: list[type[Reader]] = [EventReader, EventReader, LongPoller, CatchUp]
    for number in range(PRODUCERS):
        producer = Producer(remote, f"{name}{number}", seed, pace=0.002)
        readers = [
            kind(producer, remote, f"reader {index} of {producer.name}", seed)
            for index, kind in enumerate(kinds)
        ]
        runs += [producer.run, *(reader.run for reader in readers)]
        ends.append(producer.finish)
    return runs, ends


def write_otherwise(remote: Remote, seed: str, name: str) -> tuple[list[Run], list[Finish]]:
    """Returns clients that write batches and large bodies, that create and delete, and whose streams expire."""
    batches = [Batches(remote, f"{name}-batches{number}", seed, 0.005) for number in range(2)]
    writers = [*batches, LargeBodies(remote, f"{name}-large", seed, 0.2)]
    churns = [Churn(remote, f"{name}-churn{number}", seed) for number in range(2)]
    expiring = Expiring(remote, f"{name}-expiring", seed)
    return (
        [expiring.run, *(each.run for each in writers), *(each.run for each in churns)],
        [expiring.finish, *(each.finish for each in writers), *(each.finish for each in churns)],
    )


def visit(remote: Remote, seed: str, _: str) -> tuple[list[Run], list[Finish]]:
    """Returns a crowd of clients that vanish, and creates the streams that they read."""
    connection = remote.connect()
    octets = {"Content-Type": MEDIA}
    for path in (PAGES, LIVE):
        assert ask(connection, "PUT", path, None, octets)[0] == 201
    for _number in range(16):
        assert ask(connection, "POST", PAGES, b"x" * MIB, octets)[0] in (200, 204)
    connection.close()

    def finish(connection: Connection) -> None:
        for path in (PAGES, LIVE):
            assert ask(connection, "DELETE", path)[0] in (200, 204, 404)

    return [Visitors(remote, seed).run], [finish]


def deliver(remote: Remote, seed: str, _: str) -> tuple[list[Run], list[Finish]]:
    """Returns the clients, workers and receivers of subscriptions."""
    deliveries = Deliveries(remote, int(seed))
    remote.listeners.append(deliveries)
    return [deliveries.run], [deliveries.finish]


KINDS: dict[str, Callable[[Remote, str, str], tuple[list[Run], list[Finish]]]] = {
    "producers": produce,
    "more-producers": produce,
    "others": write_otherwise,
    "visitors": visit,
    "deliveries": deliver,
}


def finish_all(remote: Remote, ends: list[Finish]) -> None:
    """Lets each client check and delete what it has written. The server is not busy any more, but may refuse requests for a while."""
    for end in ends:
        until = time.monotonic() + TIMEOUT
        while True:
            connection = remote.connect()
            try:
                end(connection)
                break
            except GONE as error:
                if time.monotonic() > until:
                    remote.faults.append(f"the last check fails: {error!r}")
                    break
                time.sleep(0.2)
            except AssertionError as error:
                remote.faults.append(f"the last check fails: {error}")
                break
            finally:
                connection.close()


def watch(remote: Remote, run: Run) -> None:
    """Runs a client. An exception that ends it is a fault, because otherwise its thread would end unnoticed."""
    try:
        run()
    except Exception as error:
        remote.blame(f"a client has failed: {error!r}")


def main() -> None:
    """Runs the clients of one kind, and obeys the lines of its input."""
    kind, port, seed = sys.argv[1:]
    os.nice(5)  # real clients have machines of their own and take no processor time from the server
    remote = Remote(int(port))
    runs, ends = KINDS[kind](remote, seed, kind)
    threads = [threading.Thread(target=watch, args=(remote, run), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    print("ok", flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word in ("stop", "kill"):
            remote.go_down(word)
        elif word == "up":
            remote.come_up()
        print("ok" if not remote.faults else "failed", flush=True)
        if word == "over":
            break
    else:
        return  # the soak has been interrupted
    remote.over.set()
    for thread in threads:
        thread.join(2 * TIMEOUT)
    if any(thread.is_alive() for thread in threads):
        remote.faults.append("a client does not come to an end")
    elif not remote.faults:
        finish_all(remote, ends)
    print(json.dumps({"counts": remote.counts, "faults": remote.faults}), flush=True)


if __name__ == "__main__":
    main()
