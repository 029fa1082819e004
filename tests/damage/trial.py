"""One trial of the damage sweep: damages a copy of a data directory, and requires that no wrong byte is served and no loss is hidden.

Before the repair, a store refuses to open, or each stream has its bytes or reports that it is damaged. After the repair, each stream
has all its intact bytes, or the check or the repair has named it. The store can then be read, appended to and opened again.

One loss cannot be detected: the loss of the newest records of the write-ahead log, if no record follows them. So damage to the log may
return the directory to an earlier state, some records before the last.
"""

import random
import shutil
from pathlib import Path

from click.testing import CliRunner

from durable_streams_server import FileBackedStreamStore
from durable_streams_server.cli import main
from durable_streams_server.errors import BadRequest, Gone, NotFound, StreamError
from durable_streams_server.protocol.existing import visible_position
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.directory import DirectoryRefused
from durable_streams_server.storage.files.offline import adopt, repair
from durable_streams_server.storage.files.offline.directory_check import DirectoryCheck
from durable_streams_server.storage.files.offline.directory_repair import repair_directory
from durable_streams_server.storage.files.offline.findings import Finding
from tests.damage.harm import harm
from tests.damage.rich import Clock, Contents, Truth, content_of, contents, die, opened
from tests.requests import NOW

LATER = NOW + 864_000_000_000
STARTED = b"written after the repair"


class Wrong(AssertionError):
    """A trial found a fault."""


class Trial:
    """One trial of the damage sweep. The constructor does the damage.

    Args:
        seed: decides the damage.
        original: the directory to copy, which does not change.
        truth: what the original holds.
        place: where to put the copy.

    Attributes:
        done: for each damage, the way, and the kind and the name of the damaged file or directory.
    """

    def __init__(self, seed: int, original: Path, truth: Truth, place: Path) -> None:
        self._truth = truth
        self._path = place
        self._clock = Clock(LATER)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(original, place)
        self.done = harm(place, random.Random(seed))
        self._kinds = {kind for _, kind, _ in self.done}
        self._reports = ""  # the output of the check and of the repair

    def run(self) -> None:
        """Checks, serves, repairs and serves the damaged copy.

        Raises:
            Wrong: a result differs from the truth.
            Exception: a part of the server raised an error that no damage may cause.
        """
        try:
            found = list(DirectoryCheck(str(self._path)).run())
        except DirectoryRefused as refused:
            self._require("FORMAT" in self._kinds, f"refused: {refused}")
            return  # FORMAT now names a later format, so nothing may change the directory
        is_harmed = any(not finding.harmless for finding in found)
        self._keep_report(found)
        self._run_commands()
        self._serve_unrepaired(is_harmed)
        self._reports += "\n".join(repair_directory(str(self._path), LATER))
        left = [each for each in DirectoryCheck(str(self._path)).run() if not each.harmless]
        self._require(not left, f"left after the repair: {left}")
        self._serve_repaired()

    def _keep_report(self, found: list[Finding]) -> None:
        lines = (f"{each.where} {each.path}: {each.what}" for each in found)
        self._reports += "\n".join(lines) + "\n"

    def _require(self, condition: object, what: str) -> None:
        """Raises `Wrong` with the text `what` unless a condition is true."""
        if not condition:
            raise Wrong(what)

    def _run_commands(self) -> None:
        """Requires that each command either works or prints a message, but never a traceback."""
        for command in (["inspect"], ["check"], ["keys", "list"]):
            result = CliRunner().invoke(main, [*command, str(self._path)])
            is_clean = result.exception is None or isinstance(result.exception, SystemExit)
            self._require(is_clean, f"{command}: {result.exception!r}")

    def _moment(self, now: Contents) -> int | None:
        """Returns the newest moment at which the directory held exactly these contents, apart from streams that the reports name.

        Returns:
            The moment's index in `Truth.moments`, or None if there is no such moment or the write-ahead log is not damaged.
        """
        if "wal" not in self._kinds:
            return None
        others = [path for path in self._truth.last if path not in self._reports]
        moments = enumerate(self._truth.moments)
        return max(
            (
                number
                for number, each in moments
                if all(each.get(path) == now.get(path) for path in others)
            ),
            default=None,
        )

    # -- before the repair --------------------------------------------------

    def _serve_unrepaired(self, is_harmed: bool) -> None:
        """Opens a store on a copy of the damaged directory, and requires that it refuses to open or serves only true bytes.

        Args:
            is_harmed: whether the check has found harm. If it has not, the store must open without any damage.
        """
        before = self._path.with_name(self._path.name + "-before")
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(self._path, before, symlinks=True)
        try:
            store = opened(before, self._clock)
        except (Damaged, DirectoryRefused, OSError) as refused:
            self._require(is_harmed, f"no finding, but it does not open: {refused}")
            return
        try:
            damaged, now = self._read_all(store)
        finally:
            die(store)
        self._require(is_harmed or not damaged, f"no finding, but {damaged} are damaged")
        expected = [
            {path: data for path, data in each.items() if path not in damaged}
            for each in self._possible_moments()
        ]
        self._require(now in expected, f"served otherwise than ever: {self._differences(now)}")

    def _possible_moments(self) -> list[Contents]:
        """Returns the contents that the directory may have without any finding."""
        return self._truth.moments if "wal" in self._kinds else self._truth.moments[-1:]

    def _read_all(self, store: FileBackedStreamStore) -> tuple[set[str], Contents]:
        """Returns the streams that report damage, and the contents of all others."""
        damaged: set[str] = set()
        now: Contents = {}
        for path in sorted({*self._truth.last, *self._truth.deleted}):
            try:
                state = store.find(path).result()
                if state is not None and not state.visible_soft_deleted:
                    now[path] = content_of(store, path)
            except StreamError as error:
                self._require(error.code == "STREAM_DAMAGED", f"{path}: {error!r}")
                damaged.add(path)
        return damaged, now

    def _differences(self, now: Contents) -> str:
        """Returns a text with the present and the original size of each stream that differs from the newest contents."""
        last = self._truth.last
        return ", ".join(
            f"{path}: {len(now[path]) if path in now else None} of {len(last.get(path, b''))}"
            for path in sorted({*last, *now})
            if now.get(path) != last.get(path)
        )

    # -- after the repair ---------------------------------------------------

    def _serve_repaired(self) -> None:
        """Opens a store on the repaired copy, and requires that it serves, appends, checkpoints and opens again."""
        store = opened(self._path, self._clock)
        now = contents(store)
        moment = self._moment(now)
        for path in self._truth.last:
            if path not in now:
                self._require_loss_is_reported(store, path, moment)
        for path, data in now.items():
            self._compare(store, path, data, moment)
        after = self._append_to_all(store, now)
        store.run_checkpoint()
        self._require(contents(store) == after, "other bytes after a checkpoint")
        die(store)
        again = opened(self._path, self._clock)
        self._require(contents(again) == after, "other bytes after a restart")
        again.close()

    def _require_loss_is_reported(
        self, store: FileBackedStreamStore, path: str, moment: int | None
    ) -> None:
        """Requires that a missing stream was reported, and that a new stream at the same path refuses the offsets of the missing one."""
        is_unborn = moment is not None and path not in self._truth.moments[moment]
        is_reported = path in self._reports or is_unborn
        if path not in self._truth.moments[0]:  # only the write-ahead log had its path
            is_reported |= f"wal: {repair.UNKNOWN}" in self._reports
        if path not in self._truth.names:  # the stream had no bytes, so no log has its path
            is_reported |= adopt.UNKNOWN in self._reports
        self._require(is_reported, f"{path} is gone without a word")
        state = store.find(path).result()
        if state is None:
            store.create(path, "text/plain")
            store.append(path, b"x" * 20_000)
            if not is_unborn:
                self._require_old_offsets_are_refused(store, path)

    def _compare(
        self, store: FileBackedStreamStore, path: str, data: bytes, moment: int | None
    ) -> None:
        """Requires that a stream holds its true bytes, or a reported part of them that ends with an append."""
        whole = self._truth.last.get(path)
        if whole is None:
            self._require(path in self._truth.deleted, f"{path} never was")
            is_known = "wal" in self._kinds or path in self._reports
            self._require(is_known, f"{path} is back without a word")
            return
        self._require(whole.startswith(data), f"{path} holds wrong bytes")
        state = store.find(path).result()
        assert state is not None
        is_renamed = state.incarnation != self._truth.incarnations[path]
        if is_renamed:
            self._require(path in self._reports, f"{path} begins anew without a word")
            self._require_old_offsets_are_refused(store, path)
        elif data != whole:
            self._require(moment is not None, f"{path} has lost bytes and kept its incarnation")
        ends = self._truth.ends.get(path, set())
        is_cut = len(data) in ends or data == whole or not data
        is_fork = state.origin is not None and state.origin.position >= len(data)
        self._require(is_cut or is_fork, f"{path} ends inside an append")

    def _require_old_offsets_are_refused(self, store: FileBackedStreamStore, path: str) -> None:
        """Requires that a stream refuses the offsets of its former incarnation."""
        state = store.find(path).result()
        assert state is not None
        for name in self._truth.names.get(path, ()):
            if not name.startswith(f"{self._truth.incarnations[path]:016d}_"):
                continue
            try:
                visible_position(state, parse(name))
            except (Gone, BadRequest):
                continue
            raise Wrong(f"{path}: the old offset {name} names other bytes")

    def _append_to_all(self, store: FileBackedStreamStore, now: Contents) -> Contents:
        """Appends to every open stream. Returns the contents after that, which must begin with those before."""
        for path in now:
            state = store.find(path).result()
            if state is None or state.closed or state.soft_deleted:
                continue
            is_json = state.media.text.startswith("application/json")
            store.append(path, b'"%s"' % STARTED if is_json else STARTED)
        try:
            store.create("/v1/stream/new", "text/plain")
        except NotFound as error:
            raise Wrong(f"no stream can be created: {error}") from None
        after = contents(store)
        for path, data in now.items():
            self._require(after[path].startswith(data), f"{path} changed by an append")
        return after
