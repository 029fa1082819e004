"""Runs many trials: `python -m tests.delivery.hunt SEED0 SEEDS [--first] [--show] [--only=RULE,...]`.

Several threads run them at a time, because a trial mostly waits. Every seed that fails is printed with what the rules found and the
records before it; `--show` prints all records, `--first` ends the hunt at the first failure, and `--only` applies some rules, such as
`--only=cursors,leases`. A seed makes the same choices again, but at other times.
"""

import contextlib
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

from tests.delivery.history import Record
from tests.delivery.judge import Violation, judge
from tests.delivery.server import Launcher
from tests.delivery.trial import run

AT_A_TIME = 10
LISTED = 6  # violations shown of one seed
BEFORE = 25  # records shown before the first of them
SWITCH = 0.001  # seconds that one thread may run while others wait; the usual 5 ms would make timers late


class Options(NamedTuple):
    """How to hunt.

    Attributes:
        only_first: whether the first failure ends the hunt.
        is_shown: whether reports hold all records.
        only: parts of the names of the rules to apply; all if it is empty.
    """

    only_first: bool = False
    is_shown: bool = False
    only: tuple[str, ...] = ()


def attempt(seed: int, launcher: Launcher, options: Options) -> tuple[set[str], str]:
    """Runs one trial; returns which rules are violated, and a report, which is empty if all is well."""
    try:
        records = run(seed, launcher)
        found = judge(records, options.only)
    except Exception:
        return {"trial"}, f"seed {seed} fails: the trial has broken off\n{traceback.format_exc()}"
    text = report(seed, records, found, options.is_shown) if found else ""
    return {each.rule for each in found}, text


@contextlib.contextmanager
def _quick_switches() -> Iterator[None]:
    """Has Python change threads sooner, and puts the usual time back: other tests go by it."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def attempts(first: int, count: int, options: Options) -> Iterator[tuple[set[str], str]]:
    """Runs `count` trials from `first`, and yields what `attempt` returns for each that fails."""
    with (
        _quick_switches(),
        contextlib.closing(Launcher()) as launcher,
        ThreadPoolExecutor(min(AT_A_TIME, count)) as pool,
    ):
        seeds = range(first, first + count)
        for trial in as_completed([pool.submit(attempt, s, launcher, options) for s in seeds]):
            rules, text = trial.result()
            if text:
                yield rules, text
                if options.only_first:
                    pool.shutdown(wait=False, cancel_futures=True)
                    return


def report(seed: int, records: list[Record], found: list[Violation], is_shown: bool) -> str:
    """Returns what is wrong with a trial, and what happened before."""
    found = sorted(found, key=lambda each: each.place)
    last = len(records) if is_shown else found[0].place + 1
    first = 0 if is_shown else max(0, last - BEFORE)
    began = records[0].at
    lines = [f"seed {seed} fails: {len(found)} violations in {len(records)} records"]
    lines += [f"  [{each.place}] {each.rule}: {each.text}" for each in found[:LISTED]]
    for number, record in enumerate(records[first:last], first):
        text = repr(record).replace(f"at={record.at!r}, ", "").replace(f"at={record.at!r}", "")
        lines.append(f"    {number:4} {record.at - began:7.3f} {text}")
    return "\n".join(lines)


def main(first: int, count: int, options: Options) -> int:
    """Runs trials, and returns how many failed."""
    began = time.monotonic()
    failed, totals = 0, Counter[str]()
    for rules, text in attempts(first, count, options):
        failed += 1
        totals.update(rules)
        print(text, flush=True)
    for rule, seeds in sorted(totals.items()):
        print(f"{rule}: violated by {seeds} seeds")
    print(f"{count} seeds in {time.monotonic() - began:.0f} s, {failed} failed")
    return failed


if __name__ == "__main__":
    first, count = (int(each) for each in sys.argv[1:3])
    only = [each.removeprefix("--only=") for each in sys.argv if each.startswith("--only=")]
    rules = tuple(only[0].split(",")) if only else ()
    sys.exit(
        min(main(first, count, Options("--first" in sys.argv, "--show" in sys.argv, rules)), 1)
    )
