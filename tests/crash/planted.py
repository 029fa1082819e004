"""The bugs of other servers that the tests must find.

`python -m tests.crash.planted [TRAP…]` plants each bug in a copy of the source and prints a table of the trap, the bug, and the
test or seed that failed. The run fails if nothing finds a bug.
"""

import sys

from tests.crash.planting import PACKAGE, Helper, Plant, plant_all

FILES = f"{PACKAGE}/storage/files"
#: The module that hunts for bugs without a test of their own, and its arguments: the first seed and the number of seeds.
HUNT = ("tests.crash.hunt", "0", "3000", "--first")

PLANTS = [
    Plant(
        1,
        "the record does not carry the producer",
        f"{FILES}/commits.py",
        "payload = _ENCODE(changes)",
        "payload = _ENCODE(tuple(msgspec.structs.replace(c, stamp=None) if isinstance(c, Appended) else c for c in changes))",
    ),
    Plant(
        2,
        "an append begins at the visible tail instead of the newest tail",
        f"{PACKAGE}/protocol/decisions/append.py",
        "    start = state.tail\n",
        "    start = state.visible_tail\n",
    ),
    Plant(
        3,
        "records are written but not synced",
        f"{FILES}/wal.py",
        "            segment.file.write_durably(octets, position)\n",
        "            for part in octets if isinstance(octets, tuple) else (octets,):\n"
        "                segment.file.write(part, position)\n"
        "                position += len(part)\n",
    ),
    Plant(
        4,
        "recovery continues the log behind a torn record",
        f"{FILES}/wal.py",
        "        self._position = position\n        if vouched",
        "        self._position = position + 512\n        if vouched",
    ),
    Plant(
        5,
        "a log is truncated to its extent even if it is shorter",
        f"{FILES}/flush.py",
        "        if size > end:\n",
        "        if size != end:\n",
        "tests/storage/files/test_flush.py",
    ),
    Plant(
        6,
        "a failed write is retried and counts as durable",
        f"{FILES}/wal.py",
        "            segment.file.write_durably(octets, position)\n",
        "            try:\n                segment.file.write_durably(octets, position)\n            except OSError:\n"
        "                segment.file.write(data, position)\n",
    ),
    Plant(
        7,
        "a failed checkpoint forgets the dirty states",
        f"{FILES}/ledger.py",
        "        newer, self.dirty = self.dirty, capture.states\n",
        "        newer = {}\n        self._wal.recycle(capture.meta.lsn)\n        self.meta = capture.meta\n",
    ),
    Plant(
        8,
        "a damaged catalog entry counts as a missing stream",
        f"{FILES}/catalog/tables.py",
        '        raise Damaged(f"catalog: the entry of {key!r} is damaged")',
        '        return b""',
        "tests/storage/files/catalog/test_lmdb_catalog_damage.py",
    ),
    Plant(
        9,
        "replay stops at the end of the first segment",
        f"{FILES}/wal.py",
        "            yield from self._replay(segment, after)\n",
        "            yield from self._replay(segment, after)\n            break\n",
    ),
    Plant(
        10,
        "a log's size is taken for the stream's tail",
        f"{FILES}/states.py",
        "            state.producers = producers_of(entry, self._catalog, self.tally)\n",
        "            state.producers = producers_of(entry, self._catalog, self.tally)\n"
        "            size = self._logs._disk.size(f'{self._logs_path(entry.incarnation)}')\n"
        "            state.tail = state.visible_tail = max(state.tail, state.base + (size or 0))\n",
    ),
    Plant(
        11,
        "a checkpoint does not remove a deleted stream from the catalog",
        f"{FILES}/capture.py",
        "            self.changes.append(Drop(state.path, incarnation))\n            return",
        "            return",
    ),
    Plant(
        12,
        "readers see appends that are not durable",
        f"{FILES}/commits.py",
        "            return Ticket.failed(Abandoned(error))\n        ticket: Ticket[Outcome] = Ticket()\n",
        "            return Ticket.failed(Abandoned(error))\n"
        "        for item in published:\n            item.state.publish(item.change)\n"
        "        ticket: Ticket[Outcome] = Ticket()\n",
    ),
    Plant(
        13,
        "an append is applied before the log has reserved space for it",
        f"{FILES}/commits.py",
        "            place = self._admission.reserve_at_end(size, changes)\n        try:\n"
        "            published = [ledger.apply(change, command) for change in changes]\n",
        "            published = [ledger.apply(change, command) for change in changes]\n"
        "            place = self._admission.reserve_at_end(size, changes)\n        try:\n"
        "            published = [ledger.apply(change, command) for change in changes]\n",
    ),
    Plant(
        14,
        "the catalog is written before the logs",
        f"{FILES}/checkpoint.py",
        "        flush = self._logs.begin_flush(len(capture.flushes))\n",
        "        flush = self._logs.begin_flush(len(capture.flushes))\n"
        "        self._catalog.commit(capture.meta, capture.changes, [])\n",
    ),
    Plant(
        15,
        "a directory that must hold a store gets a new one",
        f"{FILES}/directory.py",
        "    if (readonly or not create) and not disk.exists(_FORMAT_FILE):",
        "    if False:",
        "tests/storage/files/test_directory.py",
    ),
    Plant(
        16,
        "a new log's directory is not synced",
        f"{FILES}/flush.py",
        "            for directory in self._unsynced_directories:\n                self._disk.sync_directory(directory)\n",
        "            pass\n",
    ),
    Plant(
        19,
        "a duplicate is answered while the original is in flight",
        f"{FILES}/commits.py",
        "        if self._flying:\n            self._flying += 1",
        "        if False:\n            self._flying += 1",
    ),
    Plant(
        47,
        "checkpoints leave subscriptions out",
        f"{FILES}/checkpoint.py",
        "order, ledger.removed, capture.documents)",
        "order, ledger.removed)",
    ),
    Plant(
        47,
        "a wake is written in a record of its own after the append",
        f"{FILES}/store.py",
        "                return commits.record(decision.changes, decision.outcome, command)\n",
        "                from ...protocol.subscriptions.changes import SubscriptionChange\n"
        "                first = [c for c in decision.changes if not isinstance(c, SubscriptionChange)]\n"
        "                rest = [c for c in decision.changes if isinstance(c, SubscriptionChange)]\n"
        "                if first and rest:\n"
        "                    ticket = commits.record(tuple(first), decision.outcome, command)\n"
        "                    commits.record(tuple(rest), None)\n"
        "                    return ticket\n"
        "                return commits.record(decision.changes, decision.outcome, command)\n",
    ),
    Plant(
        47,
        "the next checkpoint does not save new keys",
        f"{FILES}/ledger.py",
        "        self.dirty_documents[name] = None\n",
        "        if name != 'keys':\n            self.dirty_documents[name] = None\n",
    ),
    Plant(
        47,
        "a start does not load the keys",
        f"{PACKAGE}/protocol/subscriptions/state.py",
        "            self.keys = msgspec.msgpack.decode(document, type=tuple[Key, ...])\n",
        "",
    ),
    Plant(
        "DESIGN 17",
        "an evicted state is loaded as a second object while a read holds the first",
        f"{FILES}/states.py",
        "        state = self._evicted.pop(entry.incarnation, None)\n",
        "        state = None\n",
    ),
    Plant(
        "DESIGN 16",
        "streams with an expiry date follow steady time instead of the wall clock",
        f"{FILES}/lifetimes.py",
        "        self._collect_expired(self._dates, today, now, found)\n",
        "        self._collect_expired(self._dates, now, now, found)\n",
    ),
    Plant(
        "DESIGN 16",
        "a restart forgets the offset of the wall clock",
        f"{FILES}/store.py",
        "Timeline(meta.wall_offset, ",
        "Timeline(0, ",
    ),
    Plant(
        "DESIGN 16",
        "steady time starts at the wall clock after a restart",
        f"{PACKAGE}/protocol/timeline.py",
        "max(steady, self.floor)",
        "wall",
    ),
    Plant(
        "PROTOCOL 7",
        "an acknowledgement of an earlier offset moves the cursor back",
        f"{PACKAGE}/protocol/subscriptions/workers.py",
        "        if here is not None and position > here.position:\n",
        "        if here is not None and position != here.position:\n",
    ),
    Plant(
        "PROTOCOL 7.2",
        "a claim ignores the holder of the wake",
        f"{PACKAGE}/protocol/subscriptions/workers.py",
        "    if wake.holder is not None:\n        if not wake.is_over",
        "    if False:\n        if not wake.is_over",
    ),
    Plant(
        "PROTOCOL 7.3",
        "a generation is reused after a lease has expired",
        f"{PACKAGE}/protocol/subscriptions/draft.py",
        "        generation = self.generation_of(subscription) + 1\n        fruitless",
        "        generation = self.generation_of(subscription) + (last is None)\n        fruitless",
    ),
    Plant(
        "PROTOCOL 7.3",
        "commands of a fenced worker are accepted",
        f"{PACKAGE}/protocol/subscriptions/workers.py",
        "        or grant.generation != generation\n"
        "        or command.generation != generation\n"
        "        or command.wake_id != wake.wake_id\n"
        '        or grant.wake_id not in ("", wake.wake_id)\n',
        "",
    ),
    Plant(
        "DESIGN 10",
        "the child of a fork uses its parent's store",
        f"{FILES}/forked.py",
        "        thing.forked()\n",
        "        pass\n",
        "tests/storage/files/test_forked.py",
    ),
    Plant(
        "DESIGN 1",
        "a commit to a segment that was moved away is acknowledged",
        f"{FILES}/wal.py",
        "                segment.file.check_place()",
        "                pass",
        "tests/streams/test_file_store.py",
    ),
    Plant(
        "DESIGN 1",
        "a checkpoint in a lost directory recycles segments",
        f"{FILES}/checkpoint.py",
        "        self._disk.check_place()  # before the log's segments are used again\n",
        "",
        "tests/storage/files/test_directory.py",
    ),
    Plant(
        "DESIGN 6",
        "the catalog's second copy is written but not synced before the database commits",
        f"{FILES}/catalog/copy.py",
        "        self._file.write(data, position)\n        self._file.sync()\n",
        "        self._file.write(data, position)\n",
    ),
    Plant(
        "DESIGN 6",
        "a start drops a commit that only the second copy has",
        f"{FILES}/catalog/table_catalog.py",
        "            self._redo_last_commit()\n",
        "            self._copy.discard_append()\n",
    ),
    Plant(
        "DESIGN 6",
        "a start does not sync a commit that it repeats from the second copy",
        f"{FILES}/catalog/table_catalog.py",
        "        self._copy.sync()\n",
        "",
    ),
    Plant(
        57,
        "the failure of a checkpoint step during a stop is ignored",
        f"{FILES}/runner.py",
        "            if error is not None:\n                self._commits.fail(error)\n",
        "            if error is not None and not self._stopping:\n                self._commits.fail(error)\n",
        "tests/storage/files/test_runner.py",
    ),
    Plant(
        57,
        "a checkpoint that a stop cancels forgets its captured states",
        f"{FILES}/runner.py",
        "        self._phase, self._steps = Phase.NONE, None\n        self._ledger.end_capture()",
        "        self._phase, self._steps = Phase.NONE, None\n"
        "        if self._stopping:\n            self._ledger.capture = None\n        self._ledger.end_capture()",
    ),
    Plant(
        58,
        "a checkpoint that the catalog has counts as failed",
        f"{FILES}/checkpoint.py",
        "        capture.is_committed, capture.obstacle = True, None\n",
        "        yield Where.LOOP\n        capture.is_committed, capture.obstacle = True, None\n",
    ),
    Plant(
        59,
        "a damaged log stops the checkpoint of all streams",
        f"{FILES}/flush.py",
        "            except Damaged as damage:\n                self.damaged",
        "            except ZeroDivisionError as damage:\n                self.damaged",
        "tests/storage/files/test_runner.py",
    ),
    Plant(
        60,
        "a checkpoint without a file handle stops the store",
        f"{FILES}/checkpoint.py",
        "            if error.errno not in NO_SPACE | NO_HANDLES:",
        "            if error.errno not in NO_SPACE:",
    ),
    Plant(
        61,
        "an exception in one callback prevents all others",
        f"{PACKAGE}/storage/ticket.py",
        "            except Exception:\n",
        "            except KeyError:\n",
        "tests/storage/files/test_runner.py",
    ),
    Plant(
        "DESIGN 12",
        "a stream that lost bytes in a repair keeps its incarnation",
        f"{FILES}/offline/new_incarnations.py",
        "            renamed[incarnation] = NewIncarnation(newest, why)\n",
        "            pass\n",
        "tests/storage/files/offline/test_repair.py",
    ),
    Plant(
        "DESIGN 6",
        "a repair accepts what an unfinished write left behind the end of the log",
        f"{FILES}/offline/wal_scan.py",
        "(limit is not None or proof > last.lsn)",
        "True",
        "tests/storage/files/offline/test_wal_reader.py",
    ),
    Plant(
        "DESIGN 6",
        "bytes of a log are read without comparing their checksums",
        f"{FILES}/logs.py",
        "            is_verified = log.verified.has(start, end)\n",
        "            is_verified = True\n",
        "tests/storage/files/test_logs.py",
    ),
    Plant(
        "full disk",
        "a new segment file is named by the number of files",
        f"{FILES}/segments.py",
        "        number = next(n for n in range(len(taken) + 1) if _name(n) not in taken)\n",
        "        number = len(taken)\n",
        "tests/crash/test_copies.py",
    ),
    Plant(
        "full disk",
        "a delete may not use the reserve of a segment",
        f"{FILES}/admission.py",
        "        claim = claim_of(changes)\n        leaves",
        "        claim = Claim.ORDINARY\n        leaves",
        "tests/storage/files/test_headroom.py",
    ),
    Plant(
        "full disk",
        "a checkpoint on a full disk removes no deleted logs",
        f"{FILES}/checkpoint.py",
        "        dead = sorted(dropped - ledger.unlinked)\n",
        "        dead: list[int] = []\n",
        "tests/storage/files/test_headroom.py",
    ),
    Plant(
        "full disk",
        "writes continue while the ballast is missing",
        f"{FILES}/headroom.py",
        "            self.is_low = True\n",
        "            self.is_low = False\n",
        "tests/storage/files/test_headroom.py",
    ),
    Plant(
        "full disk",
        "a start checks the log of a stream that a later record deletes",
        f"{FILES}/states.py",
        "        if not self.is_replaying:\n",
        "        if True:\n",
        "tests/storage/files/test_headroom.py",
    ),
    Plant(
        "largest file",
        "a log at the maximum file size stops the store",
        f"{FILES}/flush.py",
        "                if error.errno != TOO_LARGE:\n",
        "                if True:\n",
        "tests/storage/files/test_held.py",
    ),
    Plant(
        "usage",
        "a restart forgets the bytes of replayed appends",
        f"{FILES}/recovery.py",
        "        ledger.stored += replay.added\n",
        "",
    ),
    Plant(
        "usage",
        "the catalog does not subtract the bytes of removed streams",
        f"{FILES}/catalog/tables.py",
        "            stored -= old.size\n",
        "",
    ),
    Plant(
        "owners",
        "a checkpoint forgets the owners of subscriptions",
        f"{PACKAGE}/protocol/subscriptions/documents.py",
        "            subscription.owner,\n",
        "",
    ),
    Plant(
        "owners",
        "the limit of an owner admits one subscription too many",
        f"{PACKAGE}/protocol/subscriptions/owners.py",
        "subscriptions.owners.of(owner) >= limit:",
        "subscriptions.owners.of(owner) > limit:",
    ),
]
#: The second changes that some bugs need, by trap.
HELPERS: dict[int | str, Helper] = {
    10: Helper(
        f"{FILES}/states.py",
        "    def _trace(",
        "    def _logs_path(self, incarnation):\n        from .log_layout import path_of\n        return path_of(incarnation)\n\n"
        "    def _trace(",
    )
}


if __name__ == "__main__":
    sys.exit(min(plant_all(PLANTS, HUNT, sys.argv[1:], HELPERS), 1))
