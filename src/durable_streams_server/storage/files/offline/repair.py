"""Repairs a data directory: keeps all that is whole, moves what is damaged to `quarantine/`, and deletes nothing.

The steps stand in an order in which a kill between any two leaves a directory that can be repaired again, to the same end:
what the new catalog will speak of is written first, under names that nobody reads yet; one commit of the catalog makes it
true; what the old catalog spoke of is moved away last.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from ....protocol.state import Change
from ...damage import Damaged
from ..catalog import Catalog
from ..directory import QUARANTINE
from ..disk import NO_SPACE, Disk, File
from ..index import ENTRY_SIZE, Index, Label, labelled_header
from ..log_layout import DIRECTORY as LOGS
from ..log_layout import KEPT, directory_of, path_of
from ..logs import Logs
from ..segments import DIRECTORY as WAL
from ..segments import Header, segment_header
from .mend import Cut, Mending, Move, Outcome, Withheld
from .salvage import Gap, LogReader, Record

if TYPE_CHECKING:
    from .check import Check

UNKNOWN: Final = (
    "a stream that only the missing records created is lost, one that they deleted is back"
)
_AT_ONCE: Final = 4 * 1024 * 1024  # bytes copied at once
_APART: Final = (
    1 << 32
)  # LSNs left out where nobody knows how many the lost end of the log has used
_DECODE: Final = msgspec.msgpack.Decoder(tuple[Change, ...]).decode


def replay(reader: LogReader, mending: Mending) -> Iterator[Withheld]:
    """Applies the records of the log to the catalog's states, and yields the changes that cannot be applied."""
    for item in reader.items():
        if isinstance(item, Gap):
            mending.gap(item)
        else:
            yield from _apply(item, mending)


def _apply(record: Record, mending: Mending) -> Iterator[Withheld]:
    try:
        changes = _DECODE(record.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"record {record.lsn} cannot be understood: {error}") from None
    for change in changes:
        why = mending.apply(change)
        if why is not None:
            yield Withheld(record.lsn, change, why)


def repair(
    disk: Disk, catalog: Catalog, check: "Check", now: int, *, is_salvaged: bool = False
) -> Iterator[str]:
    """Repairs what a check has found, and yields what was done and what is lost.

    Args:
        disk: the directory, which this process has.
        catalog: its catalog.
        check: has run on both.
        now: microseconds of Unix time.
        is_salvaged: whether the catalog was made from what was left of it.
    """
    if not check.is_catalog_whole:
        yield "catalog: it cannot be repaired; restore it from a backup"
        return
    for name in (
        check.orphans
    ):  # first: an earlier repair that was killed may have made them, and the names are used again
        yield move_to_quarantine(disk, name)
    for words, entries in check.headers:
        yield _write_header(disk, words, entries)
    for words, entries, kept in check.joins:
        yield from _join(disk, words, entries, kept)
    if check.cuts or check.is_log_damaged or is_salvaged:
        yield from mend(
            disk,
            catalog,
            check.cuts,
            now,
            renew_log=check.is_log_damaged or is_salvaged,
            is_salvaged=is_salvaged,
            is_strange=check.is_log_strange,
        )


def mend(
    disk: Disk,
    catalog: Catalog,
    cuts: Mapping[str, Cut],
    now: int,
    *,
    renew_log: bool,
    is_salvaged: bool = False,
    is_strange: bool = False,
) -> Iterator[str]:
    """Makes the catalog and the logs what can be proven, and yields what was done and what is lost.

    Args:
        disk: the directory, which this process has.
        catalog: its catalog, every entry of which can be read.
        cuts: what is left of the streams whose logs are damaged, by path.
        now: microseconds of Unix time.
        renew_log: whether the write-ahead log is damaged, so that a new one must begin.
        is_salvaged: whether the catalog was made from what was left of it.
        is_strange: whether the log may be another directory's, so that nothing shows which records its own had.
    """
    disk.make_directory(QUARANTINE)
    mending = Mending(catalog, cuts, is_salvaged=is_salvaged)
    reader = LogReader(disk, mending.meta.lsn)
    try:
        yield from _withhold(disk, replay(reader, mending))
        if is_strange:
            mending.gap(Gap(reader.last, None, None))
        is_open = is_salvaged or any(gap.before is None for gap in mending.gaps)
        lsn = reader.last + (_APART if is_open else 0)
        outcome = mending.outcome(lsn, now)
        yield from _losses(mending, outcome)
        _write_logs(disk, outcome)
        if renew_log:
            _begin_log(disk, reader.number + 1, lsn)
        catalog.commit(outcome.meta, outcome.changes, outcome.forgotten, outcome.documents)
        yield from _move_old_logs(disk, outcome.moves)
        if renew_log:
            yield from _move_old_segments(disk)
    finally:
        reader.close()


def _losses(mending: Mending, outcome: Outcome) -> Iterator[str]:
    for gap in mending.gaps:
        yield f"{WAL}: {gap.in_words()}"
    if mending.gaps:
        yield f"{WAL}: {UNKNOWN}"
    yield from outcome.words


# -- what is kept beside ------------------------------------------------


def _withhold(disk: Disk, withheld: Iterator[Withheld]) -> Iterator[str]:
    """Writes changes that cannot be applied to a file, one line of JSON each, and yields what it took in."""
    file, name, position = None, "", 0
    counts: dict[tuple[str, str], int] = {}
    for each in withheld:
        if file is None:
            name = _free_name(disk, f"{QUARANTINE}/records.jsonl")
            file = disk.open(name, create=True)
        line = msgspec.json.encode(_in_words(each)) + b"\n"
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


def _in_words(withheld: Withheld) -> dict[str, object]:
    change = withheld.change
    return {
        "record": withheld.lsn,
        "why": withheld.why,
        "change": type(change).__name__,
        **msgspec.structs.asdict(change),
    }


def _subject(change: Change) -> str:
    path = getattr(change, "path", None)
    if path is not None:
        return str(path)
    return f"subscription {getattr(change, 'id', '')}"


def move_to_quarantine(disk: Disk, name: str) -> str:
    """Moves a file, or whatever is at its path, to the quarantine; returns what was done, in words."""
    if name == QUARANTINE:  # it is no directory
        aside = _free_name(disk, f"{QUARANTINE}.aside")
        disk.rename(QUARANTINE, aside)
        return f"{name} is now {aside}"
    disk.make_directory(QUARANTINE)
    target = _free_name(disk, f"{QUARANTINE}/{name.replace('/', '-')}")
    disk.rename(name, target)
    disk.sync_directory(QUARANTINE)
    disk.sync_directory(name.rpartition("/")[0])
    return f"{name} is now {target}"


def _free_name(disk: Disk, name: str) -> str:
    target, number = name, 1
    while disk.exists(target):  # an earlier repair's
        number += 1
        target = f"{name}.{number}"
    return target


def _write_header(disk: Disk, words: Label, entries: int) -> str:
    """Writes an index anew whose header alone is damaged."""
    name = path_of(words.incarnation) + ".idx"
    _copy_index(disk, name, name + ".new", words, entries, sync=True)
    disk.rename(name + ".new", name)
    disk.sync_directory(directory_of(words.incarnation))
    return f"{name}: its header is written anew"


def _join(disk: Disk, words: Label, entries: int, kept: int) -> Iterator[str]:
    """Adds to a log what checkpoints could not add to it and have kept beside it."""
    yield _write_header(disk, words, entries)
    name = path_of(words.incarnation)
    beside = name + KEPT
    data, more = disk.open(name), disk.open(beside)
    file, more_file = disk.open(name + ".idx"), disk.open(beside + ".idx")
    index, more_index = Index.of(file), Index.of(more_file)
    _copy_bytes(more, 0, data, more_index.base - words.base, more.size())
    at = index.place_of(entries)
    _copy_bytes(more_file, more_index.begin, file, at, kept * ENTRY_SIZE)
    for each in (data, file):
        each.sync()
    for each in (data, more, file, more_file):
        each.close()
    for suffix in ("", ".idx"):
        yield move_to_quarantine(disk, beside + suffix)


# -- logs ---------------------------------------------------------------


def _write_logs(disk: Disk, outcome: Outcome) -> None:
    """Writes what the logs are to have, and gives them the names that the catalog will know."""
    logs = Logs(disk)
    try:
        flush = logs.begin_flush(len(outcome.flushes))
        flush.write(outcome.flushes)
        flush.sync()
        for what in flush.damaged.values():
            raise Damaged(what)  # a log that was whole a moment ago
    finally:
        logs.close()
    parents = set()
    for move in outcome.moves:
        if move.extent.entries:
            _copy_log(disk, move)
            parents.add(directory_of(move.new))
    if parents:
        disk.sync_all()
        disk.sync_directory(LOGS)
        for parent in sorted(parents):
            disk.sync_directory(parent)


def _copy_log(disk: Disk, move: Move) -> None:
    """Gives a log a second name, or copies what is left of it; its index is copied."""
    old, new = path_of(move.old), path_of(move.new)
    base, tail, entries = move.extent
    disk.make_directory(directory_of(move.new))
    if move.is_cut:  # the rest must stay as it is, for whoever can read more of it
        _copy(disk, old, new, tail - base)
    else:
        try:
            disk.link(old, new)
        except OSError:  # a file system without links
            _copy(disk, old, new, tail - base)
    _copy_index(disk, old + ".idx", new + ".idx", move.words, entries)


def _copy_index(
    disk: Disk, old: str, new: str, words: Label, entries: int, *, sync: bool = False
) -> None:
    """Copies the entries of an index, behind a new header."""
    source = disk.open(old)
    try:
        index = Index.of(source)
    except Damaged:
        index = Index.without_header(source, words.base)
    disk.unlink(new)
    target = disk.open(new, create=True)
    head = labelled_header(words)
    target.write(head, 0)
    _copy_bytes(source, index.begin, target, len(head), entries * ENTRY_SIZE)
    if sync:
        target.sync()
    source.close()
    target.close()


def _copy(disk: Disk, old: str, new: str, size: int) -> None:
    source = disk.open(old)
    disk.unlink(new)
    target = disk.open(new, create=True)
    _copy_bytes(source, 0, target, 0, size)
    source.close()
    target.close()


def _copy_bytes(source: File, at: int, target: File, to: int, size: int) -> None:
    while size:
        data = source.read(min(size, _AT_ONCE), at)
        if not data:
            raise Damaged("a log is shorter than it was")
        target.write(data, to)
        at, to, size = at + len(data), to + len(data), size - len(data)


def _move_old_logs(disk: Disk, moves: list[Move]) -> Iterator[str]:
    """Takes the old names away; of a damaged log they lead to the only whole copy, and go to the quarantine."""
    parents = set()
    for move in moves:
        for name in (path_of(move.old), path_of(move.old) + ".idx"):
            if not disk.exists(name):
                continue
            if move.is_cut:
                yield move_to_quarantine(disk, name)
            else:
                disk.unlink(name)
                parents.add(directory_of(move.old))
    for parent in sorted(parents):
        disk.sync_directory(parent)


# -- the write-ahead log ------------------------------------------------


def _begin_log(disk: Disk, number: int, lsn: int) -> None:
    """Writes a segment whose first record will follow `lsn`: what older segments hold is of no use from then on."""
    sizes = [disk.size(f"{WAL}/{name}") or 0 for name in disk.names(WAL)]
    file = disk.open(_new_segment(disk), create=True)
    header = Header(number, lsn + 1, disk.random_number())
    file.write(segment_header(header, 0), 0)
    try:
        file.allocate(max([file.size(), *sizes]))
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise  # a smaller one serves too
    file.sync()
    file.close()
    disk.sync_directory(WAL)


def _new_segment(disk: Disk) -> str:
    numbers = [int(name) for name in disk.names(WAL) if name.isdecimal()]
    return f"{WAL}/{max(numbers, default=-1) + 1:03d}"


def _move_old_segments(disk: Disk) -> Iterator[str]:
    """Moves the segments of the damaged log to the quarantine, and names the new one as the first."""
    *old, new = (name for name in disk.names(WAL) if name.isdecimal())
    for name in old:
        yield move_to_quarantine(disk, f"{WAL}/{name}")
    if new != "000":
        disk.rename(f"{WAL}/{new}", f"{WAL}/000")
        disk.sync_directory(WAL)
