"""Moves damaged files to `quarantine/`, and writes a file there with the changes that a repair could not apply. A repair deletes nothing."""

from collections.abc import Iterator

import msgspec

from ....protocol.state import Change
from ..directory import QUARANTINE
from ..disk import Disk
from .apply_records import Withheld


def move_to_quarantine(disk: Disk, name: str) -> str:
    """Moves the file or directory at a path to the quarantine. Returns a sentence that says so."""
    if name == QUARANTINE:  # a file has the name of the directory
        aside = _free_name(disk, f"{QUARANTINE}.aside")
        disk.rename(QUARANTINE, aside)
        return f"{name} is now {aside}"
    disk.make_directory(QUARANTINE)
    target = _free_name(disk, f"{QUARANTINE}/{name.replace('/', '-')}")
    disk.rename(name, target)
    disk.sync_directory(QUARANTINE)
    disk.sync_directory(name.rpartition("/")[0])
    return f"{name} is now {target}"


def write_withheld(disk: Disk, withheld: Iterator[Withheld]) -> Iterator[str]:
    """Creates a file in the quarantine with one line of JSON for each change that a repair could not apply.

    Yields:
        For each stream or subscription, one sentence for each reason, with the number of changes.
    """
    file, name, position = None, "", 0
    counts: dict[tuple[str, str], int] = {}
    for each in withheld:
        if file is None:
            name = _free_name(disk, f"{QUARANTINE}/records.jsonl")
            file = disk.open(name, create=True)
        line = msgspec.json.encode(_as_json(each)) + b"\n"
        file.write(line, position)
        position += len(line)
        key = _subject(each.change), each.why
        counts[key] = counts.get(key, 0) + 1
    if file is not None:
        file.sync()
        file.close()
        disk.sync_directory(QUARANTINE)
    for (subject, why), count in counts.items():
        yield f"{subject}: {why}; {count} later changes are in {name}"


def _as_json(withheld: Withheld) -> dict[str, object]:
    """Returns the fields of one line in the file of withheld changes."""
    change = withheld.change
    return {
        "record": withheld.lsn,
        "why": withheld.why,
        "change": type(change).__name__,
        **msgspec.structs.asdict(change),
    }


def _subject(change: Change) -> str:
    """Returns the path of the stream that a change is about, or a phrase that names the subscription."""
    path = getattr(change, "path", None)
    if path is not None:
        return str(path)
    return f"subscription {getattr(change, 'id', '')}"


def _free_name(disk: Disk, name: str) -> str:
    """Returns a name, with a number added if an earlier repair has used the name."""
    target, number = name, 1
    while disk.exists(target):
        number += 1
        target = f"{name}.{number}"
    return target
