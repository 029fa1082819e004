"""Runs many trials: `python -m tests.delivery.hunt SEED0 SEEDS [--first] [--show] [--only=RULE,...]`.

Ten threads run the trials, because a trial mostly waits. For each seed that fails, the hunt prints the violations, the records before
the first one, and the command that repeats the trial. `--show` prints all records of a trial, `--first` stops at the first failure,
and `--only` applies some of the rules, such as `--only=cursors,leases`. A repeated trial makes the same choices, but the timing of
its requests differs, so a rare violation may need several runs.
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

THREADS = 10
MAX_LISTED = 6  # violations printed for one seed
RECORDS_BEFORE = 25  # records printed before the first violation
#: Seconds after which Python lets another thread run. With the usual 5 ms, the timers of the threads would be late.
SWITCH_INTERVAL = 0.001


class Options(NamedTuple):
    """Options of a hunt.

    Attributes:
        only_first: True if the first failure ends the hunt.
        show_all: True if a report contains all records of the trial.
        only: parts of the names of the rules to apply. An empty tuple applies all rules.
    """

    only_first: bool = False
    show_all: bool = False
    only: tuple[str, ...] = ()


def run_and_judge(seed: int, launcher: Launcher, options: Options) -> tuple[set[str], str]:
    """Runs one trial. Returns the names of the violated rules, and a report, which is empty if no rule is violated."""
    try:
        records = run(seed, launcher)
        found = judge(records, options.only)
    except Exception:
        lines = [f"seed {seed} fails: the trial has broken off", traceback.format_exc().rstrip()]
        return {"trial"}, "\n".join([*lines, repeat_line(seed, options)])
    text = report(seed, records, found, options) if found else ""
    return {each.rule for each in found}, text


@contextlib.contextmanager
def short_switch_interval() -> Iterator[None]:
    """Sets Python's switch interval for the threads of a hunt, and restores it at the end, because other tests depend on it."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def failures(first: int, count: int, options: Options) -> Iterator[tuple[set[str], str]]:
    """Runs the trials of `count` seeds from `first`, and yields the violated rules and the report of each trial that fails."""
    with (
        short_switch_interval(),
        contextlib.closing(Launcher()) as launcher,
        ThreadPoolExecutor(min(THREADS, count)) as pool,
    ):
        seeds = range(first, first + count)
        trials = [pool.submit(run_and_judge, seed, launcher, options) for seed in seeds]
        for trial in as_completed(trials):
            rules, text = trial.result()
            if text:
                yield rules, text
                if options.only_first:
                    pool.shutdown(wait=False, cancel_futures=True)
                    return


def report(seed: int, records: list[Record], found: list[Violation], options: Options) -> str:
    """Returns the violations of a trial, the records before the first one, and the command that repeats the trial."""
    found = sorted(found, key=lambda each: each.place)
    last = len(records) if options.show_all else found[0].place + 1
    first = 0 if options.show_all else max(0, last - RECORDS_BEFORE)
    began = records[0].at
    lines = [f"seed {seed} fails: {len(found)} violations in {len(records)} records"]
    lines += [f"  [{each.place}] {each.rule}: {each.text}" for each in found[:MAX_LISTED]]
    for number, record in enumerate(records[first:last], first):
        text = repr(record).replace(f"at={record.at!r}, ", "").replace(f"at={record.at!r}", "")
        lines.append(f"    {number:4} {record.at - began:7.3f} {text}")
    return "\n".join([*lines, repeat_line(seed, options)])


def repeat_line(seed: int, options: Options) -> str:
    """Returns a line with the command that repeats the trial of a seed and prints all its records."""
    only = f" --only={','.join(options.only)}" if options.only else ""
    return f"  repeat it with: {sys.executable} -m tests.delivery.hunt {seed} 1 --show{only}"


def main(first: int, count: int, options: Options) -> int:
    """Runs trials and prints the failures. Returns the number of seeds that failed."""
    began = time.monotonic()
    failed, totals = 0, Counter[str]()
    for rules, text in failures(first, count, options):
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
