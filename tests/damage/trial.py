"""One trial: damage a copy of a rich directory, and see that nothing wrong is served and nothing goes without a word.

Before the repair, a store either refuses to open, or each stream is what it was, or says that it is damaged. After the repair, every
stream is there with all that is whole of it, or has been named; it can be read, written and opened again.

One loss cannot be told: that of the newest records of the write-ahead log, without a record behind them. So damage to the log
may leave the directory as it was some records earlier.
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
from tests.damage.rich import Clock, Held, Truth, die, everything, held, opened
from tests.requests import NOW

LATER = NOW + 864_000_000_000
STARTED = b"written after the repair"


class Wrong(AssertionError):
    """The trial has found a fault."""


class Trial:
    """One trial.

    Args:
        seed: what decides the damage.
        original: the directory, which is left as it is.
        truth: what it holds.
        place: where to put the copy.
    """

    def __init__(self, seed: int, original: Path, truth: Truth, place: Path) -> None:
        self._truth = truth
        self._path = place
        self._clock = Clock(LATER)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(original, place)
        self.done = harm(place, random.Random(seed))
        self._kinds = {kind for _, kind, _ in self.done}
        self._said = ""

    def run(self) -> None:
        """Runs the trial.

        Raises:
            Wrong: something is not as it must be.
            Exception: what no damage may lead to.
        """
        try:
            found = list(DirectoryCheck(str(self._path)).run())
        except DirectoryRefused as refused:
            self._require("FORMAT" in self._kinds, f"refused: {refused}")
            return  # its FORMAT reads as that of a later version, which nobody may touch
        is_harmed = any(not finding.harmless for finding in found)
        self._say(found)
        self._commands()
        self._serve_unrepaired(is_harmed)
        self._said += "\n".join(repair_directory(str(self._path), LATER))
        left = [each for each in DirectoryCheck(str(self._path)).run() if not each.harmless]
        self._require(not left, f"left after the repair: {left}")
        self._serve_repaired()

    def _say(self, found: list[Finding]) -> None:
        self._said += "\n".join(f"{each.where} {each.path}: {each.what}" for each in found) + "\n"

    def _require(self, condition: object, what: str) -> None:
        if not condition:
            raise Wrong(what)

    def _commands(self) -> None:
        """The commands say it in a line, or do their work."""
        for command in (["inspect"], ["check"], ["keys", "list"]):
            result = CliRunner().invoke(main, [*command, str(self._path)])
            is_clean = result.exception is None or isinstance(result.exception, SystemExit)
            self._require(is_clean, f"{command}: {result.exception!r}")

    def _moment(self, now: Held) -> int | None:
        """Returns the newest moment at which the directory held exactly that, apart from streams that were named."""
        if "wal" not in self._kinds:
            return None
        others = [path for path in self._truth.last if path not in self._said]
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
            for each in self._moments()
        ]
        self._require(now in expected, f"served otherwise than ever: {self._differences(now)}")

    def _moments(self) -> list[Held]:
        return self._truth.moments if "wal" in self._kinds else self._truth.moments[-1:]

    def _read_all(self, store: FileBackedStreamStore) -> tuple[set[str], Held]:
        """Returns which streams say that they are damaged, and what the others hold."""
        damaged: set[str] = set()
        now: Held = {}
        for path in sorted({*self._truth.last, *self._truth.deleted}):
            try:
                state = store.find(path).result()
                if state is not None and not state.visible_soft_deleted:
                    now[path] = held(store, path)
            except StreamError as error:
                self._require(error.code == "STREAM_DAMAGED", f"{path}: {error!r}")
                damaged.add(path)
        return damaged, now

    def _differences(self, now: Held) -> str:
        last = self._truth.last
        return ", ".join(
            f"{path}: {len(now[path]) if path in now else None} of {len(last.get(path, b''))}"
            for path in sorted({*last, *now})
            if now.get(path) != last.get(path)
        )

    # -- after it -----------------------------------------------------------

    def _serve_repaired(self) -> None:
        store = opened(self._path, self._clock)
        now = everything(store)
        moment = self._moment(now)
        for path in self._truth.last:
            if path not in now:
                self._gone(store, path, moment)
        for path, data in now.items():
            self._compare(store, path, data, moment)
        after = self._write(store, now)
        store.run_checkpoint()
        self._require(everything(store) == after, "other bytes after a checkpoint")
        die(store)
        again = opened(self._path, self._clock)
        self._require(everything(again) == after, "other bytes after a restart")
        again.close()

    def _gone(self, store: FileBackedStreamStore, path: str, moment: int | None) -> None:
        """A stream is not there: it was named, and its offsets name nothing of a new stream at its path."""
        is_unborn = moment is not None and path not in self._truth.moments[moment]
        is_said = path in self._said or is_unborn
        if path not in self._truth.moments[0]:  # only the log knew its name
            is_said |= f"wal: {repair.UNKNOWN}" in self._said
        if path not in self._truth.names:  # no log has its name
            is_said |= adopt.UNKNOWN in self._said
        self._require(is_said, f"{path} is gone without a word")
        state = store.find(path).result()
        if state is None:
            store.create(path, "text/plain")
            store.append(path, b"x" * 20_000)
            if not is_unborn:
                self._refuse_old_names(store, path)

    def _compare(
        self, store: FileBackedStreamStore, path: str, data: bytes, moment: int | None
    ) -> None:
        whole = self._truth.last.get(path)
        if whole is None:
            self._require(path in self._truth.deleted, f"{path} never was")
            is_known = "wal" in self._kinds or path in self._said
            self._require(is_known, f"{path} is back without a word")
            return
        self._require(whole.startswith(data), f"{path} holds wrong bytes")
        state = store.find(path).result()
        assert state is not None
        is_renamed = state.incarnation != self._truth.incarnations[path]
        if is_renamed:
            self._require(path in self._said, f"{path} begins anew without a word")
            self._refuse_old_names(store, path)
        elif data != whole:
            self._require(moment is not None, f"{path} has lost bytes and kept its incarnation")
        ends = self._truth.ends.get(path, set())
        is_cut = len(data) in ends or data == whole or not data
        is_fork = state.origin is not None and state.origin.position >= len(data)
        self._require(is_cut or is_fork, f"{path} ends inside an append")

    def _refuse_old_names(self, store: FileBackedStreamStore, path: str) -> None:
        """Offsets of bytes that were the stream's own are refused."""
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

    def _write(self, store: FileBackedStreamStore, now: Held) -> Held:
        """Appends to every stream that takes appends, and returns what is held then."""
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
        after = everything(store)
        for path, data in now.items():
            self._require(after[path].startswith(data), f"{path} changed by an append")
        return after
