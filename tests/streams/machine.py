"""A Hypothesis state machine that runs the same operations on a store and on a simple model of streams as bytes.

It checks that a read resumes byte for byte from every offset that the store has returned, with any page size. It also checks that offsets
grow with positions, and that a fork has the bytes of its source followed by its own.
"""

import codecs
import json
from dataclasses import dataclass, field
from typing import TypeVar, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from durable_streams_server.errors import BadRequest, Gone, NotFound, StreamError
from durable_streams_server.protocol.commands import Delete, Fork
from durable_streams_server.protocol.decisions.outcomes import AppendOutcome
from durable_streams_server.protocol.decisions.quota import Usage
from durable_streams_server.protocol.existing import require_existing, visible_position
from durable_streams_server.protocol.media import Kind
from durable_streams_server.protocol.offsets import Offset, parse
from durable_streams_server.protocol.sse import complete_text
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.store import Store
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams import forks
from durable_streams_server.streams.reader import Reader
from tests.requests import NOW, append, create

T = TypeVar("T")

TYPES = {
    Kind.JSON: "application/json",
    Kind.TEXT: "text/plain; charset=utf-8",
    Kind.BINARY: "application/octet-stream",
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
json_bodies = st.lists(json_values, min_size=1, max_size=8).map(
    lambda values: (json.dumps(values, ensure_ascii=False).encode(), values)
)


@dataclass
class Model:
    """The expected content of one stream: its wire bytes, the ends of its appends and values, and the offsets that the store has returned."""

    path: str
    kind: Kind
    wire: bytes = b""
    append_ends: list[int] = field(default_factory=list)
    value_ends: list[int] = field(default_factory=lambda: [0])
    minted: dict[int, str] = field(default_factory=dict)
    closed: bool = False
    children: int = 0
    parent: "Model | None" = None
    deleted: bool = False
    base: int = 0

    def add(self, wire: bytes, value_ends: list[int]) -> None:
        begin = len(self.wire)
        self.wire += wire
        self.append_ends.append(len(self.wire))
        self.value_ends += [begin + end for end in value_ends]


class StreamMachine(RuleBasedStateMachine):
    """Runs random operations on one store, which the subclass creates in `make_store`."""

    streams = Bundle("streams")

    def __init__(self) -> None:
        super().__init__()
        self.store = self.make_store()
        self.reader = Reader(self.store)
        self.models: list[Model] = []
        self.kept: list[Model] = []  # deleted streams that still have forks
        self.numbers = 0

    def make_store(self) -> Store:
        raise NotImplementedError

    def wait(self, ticket: Ticket[T]) -> T:
        """Waits for a ticket and returns its result. Tickets of the memory store are always done."""
        return ticket.result()

    def teardown(self) -> None:
        self.store.close()

    # -- operations -------------------------------------------------------

    @rule(target=streams, kind=st.sampled_from(list(Kind)))
    def create_stream(self, kind: Kind) -> Model:
        self.numbers += 1
        model = Model(f"/{self.numbers}", kind)
        self.wait(self.store.execute(create(model.path, TYPES[kind]), NOW))
        self.models.append(model)
        return model

    @rule(
        model=streams,
        body=json_bodies,
        text=st.text(min_size=1, max_size=40),
        raw=st.binary(min_size=1, max_size=80),
        closes=st.integers(0, 9),
    )
    def write(
        self, model: Model, body: tuple[bytes, list[object]], text: str, raw: bytes, closes: int
    ) -> None:
        sent, ends = self.content(model.kind, body, text, raw)
        command = append(model.path, sent, TYPES[model.kind], closes=closes == 0)
        if model.deleted or model.closed:
            with pytest.raises(StreamError):
                self.wait(self.store.execute(command, NOW))
            return
        outcome = cast(AppendOutcome, self.wait(self.store.execute(command, NOW)))
        wire = sent[1:-1] + b"," if model.kind is Kind.JSON else sent
        if model.kind is Kind.JSON:
            wire = b"".join(
                json.dumps(value, ensure_ascii=False).encode() + b"," for value in body[1]
            )
        model.add(wire, ends)
        model.closed = closes == 0
        self.mint(model, len(model.wire), outcome.next_offset)

    @rule(target=streams, source=streams, data=st.data())
    def fork(self, source: Model, data: st.DataObject) -> Model:
        self.numbers += 1
        model = Model(f"/{self.numbers}", source.kind)
        anchor = (
            data.draw(st.sampled_from(sorted(source.minted)) | st.none()) if source.minted else None
        )
        position = len(source.wire) if anchor is None else anchor
        sub_offset, position = (
            self.sub_offset(source, position, data) if anchor is not None else (None, position)
        )
        offset = None if anchor is None else parse(source.minted[anchor])
        command = create(model.path, None, fork=Fork(source.path, offset, sub_offset))
        ticket = forks.resolve(self.store, self.reader, command, NOW).then(
            lambda resolved: self.store.execute(resolved, NOW)
        )
        if source.deleted:
            with pytest.raises(StreamError):
                self.wait(ticket)
            model.deleted = True
            return model
        self.wait(ticket)
        model.wire, model.base = source.wire[:position], position
        model.append_ends = [end for end in source.append_ends if end < position] + [position] * (
            position > 0
        )
        model.value_ends = [end for end in source.value_ends if end <= position]
        model.minted = {at: name for at, name in source.minted.items() if at <= position}
        model.parent = source
        source.children += 1
        self.models.append(model)
        return model

    @rule(model=consumes(streams))
    def delete(self, model: Model) -> None:
        if model.deleted:
            return
        self.wait(self.store.execute(Delete(model.path), NOW))
        model.deleted = True
        self.models.remove(model)
        self.kept.append(model)
        if model.children:
            with pytest.raises(Gone):
                require_existing(self.wait(self.store.find(model.path)), NOW)
        self.release(model)

    def release(self, model: Model) -> None:
        """Checks that a deleted stream without forks is removed, and that its deleted source is removed too if the source has no other fork."""
        while model.deleted and model.children == 0:
            assert self.wait(self.store.find(model.path)) is None
            self.kept.remove(model)
            if model.parent is None:
                return
            model.parent.children -= 1
            model = model.parent

    # -- checks -----------------------------------------------------

    @rule(model=streams, cap=st.sampled_from([1, 2, 3, 7, 40, 1000]), data=st.data())
    def resume(self, model: Model, cap: int, data: st.DataObject) -> None:
        if model.deleted:
            return
        state = self.state(model)
        start = data.draw(st.sampled_from(sorted({0, *model.minted})))
        offset = Offset(0, 0) if start == 0 else parse(model.minted[start])
        position = visible_position(state, offset)
        assert position == start
        read = b""
        while True:
            page = self.wait(self.reader.page(state, position, cap))
            assert page.start == position
            assert page.end == position + len(page.data)
            read += page.data
            self.check_cut(model, page.end, page.at_tail)
            self.mint(model, page.end, state.name(page.end))
            position = page.end
            assert page.closed == (page.at_tail and model.closed)
            if page.at_tail:
                break
            assert page.data
            if model.kind is Kind.TEXT:
                assert complete_text(page.data, at_end=False)
        assert read == model.wire[start:]

    @rule(model=streams, data=st.data())
    def read_starts_only_where_page_may_end(self, model: Model, data: st.DataObject) -> None:
        if model.deleted or not model.wire:
            return
        state = self.state(model)
        position = data.draw(st.integers(0, len(model.wire)))
        begin = self.begin_of(model, position)
        if begin is not None:
            assert self.wait(self.reader.check(state, position)) == begin
        else:
            with pytest.raises(BadRequest):
                self.wait(self.reader.check(state, position))

    @rule(model=streams, data=st.data())
    def one_byte_past_append_means_its_end(self, model: Model, data: st.DataObject) -> None:
        if model.deleted or not model.minted or model.kind is Kind.JSON:
            return
        state = self.state(model)
        end = data.draw(st.sampled_from(sorted(model.minted)))
        asked = Offset(parse(model.minted[end]).incarnation, end + 1)
        begin: int | None = end
        if end < len(model.wire) and state.name(end + 1) == str(asked):
            begin = self.begin_of(model, end + 1)
        assert self.wait(self.reader.check(state, visible_position(state, asked))) == begin

    @rule(model=streams, past=st.integers(1, 1000))
    def offset_past_tail_is_refused(self, model: Model, past: int) -> None:
        if model.deleted:
            return
        state = self.state(model)
        least = 0 if model.kind is Kind.JSON else 1
        with pytest.raises(BadRequest):
            visible_position(state, Offset(state.incarnation, len(model.wire) + least + past))
        with pytest.raises(BadRequest):
            visible_position(state, Offset(state.incarnation + 1_000_000, 0))

    @rule(first=streams, second=streams)
    def offset_of_other_stream_names_same_bytes_or_is_refused(
        self, first: Model, second: Model
    ) -> None:
        if first.deleted or second.deleted or first.kind is not second.kind:
            return
        ours = self.state(first)
        for position, name in second.minted.items():
            if first.minted.get(position) == name:
                continue
            try:
                found = visible_position(ours, parse(name))
            except (Gone, BadRequest):
                continue
            # An offset that is valid in both streams follows the same bytes in both. An offset one byte past the shared bytes means their end.
            assert found == position or (first.kind is not Kind.JSON and found == position - 1)
            assert first.wire[:found] == second.wire[:found]

    @invariant()
    def tails_match_models(self) -> None:
        for model in self.models:
            state = self.state(model)
            assert state.visible_tail == len(model.wire)
            assert state.visible_closed == model.closed

    @invariant()
    def usage_is_the_sum_over_all_streams(self) -> None:
        sizes = [len(model.wire) - model.base for model in (*self.models, *self.kept)]
        assert self.store.usage == Usage(len(sizes), sum(sizes))

    # -- helpers ------------------------------------------------------------

    def state(self, model: Model) -> StreamState:
        found = self.wait(self.store.find(model.path))
        try:
            return require_existing(found, NOW)
        except NotFound:
            raise AssertionError(f"{model.path} is lost") from None

    def content(
        self, kind: Kind, body: tuple[bytes, list[object]], text: str, raw: bytes
    ) -> tuple[bytes, list[int]]:
        if kind is Kind.JSON:
            ends, at = [], 0
            for value in body[1]:
                at += len(json.dumps(value, ensure_ascii=False).encode()) + 1
                ends.append(at)
            return body[0], ends
        if kind is Kind.BINARY:
            return raw, []
        sent = text.encode("utf-8", "replace")
        # Up to three bytes are cut off, so the text may end inside a character.
        return sent[: max(1, len(sent) - raw[0] % 4)], []

    def begin_of(self, model: Model, position: int) -> int | None:
        """Returns the position at which a read of `position` starts, or None if the read is refused."""
        ends = model.value_ends if model.kind is Kind.JSON else [0, *model.append_ends]
        if position in ends:
            return position
        if model.kind is Kind.JSON:
            return None
        end = next(end for end in ends if end > position)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        if model.kind is Kind.TEXT and not decoder.decode(model.wire[position:end]):
            return position
        return position - 1 if position - 1 in ends else None

    def sub_offset(self, source: Model, anchor: int, data: st.DataObject) -> tuple[int | None, int]:
        end = next((end for end in source.append_ends if end > anchor), anchor)
        if source.kind is Kind.JSON:
            ends = [at for at in source.value_ends if anchor < at <= end]
            count = data.draw(st.integers(0, len(ends)))
            return count, ends[count - 1] if count else anchor
        count = data.draw(st.integers(0, end - anchor))
        return count, anchor + count

    def mint(self, model: Model, position: int, name: str) -> None:
        known = model.minted.setdefault(position, name)
        assert known == name, "one position, one name"
        ordered = [model.minted[at] for at in sorted(model.minted)]
        assert ordered == sorted(set(ordered)), "names grow with positions"

    def check_cut(self, model: Model, end: int, at_tail: bool) -> None:
        if model.kind is Kind.JSON:
            assert end in model.value_ends
        else:
            assert end in model.append_ends or at_tail
