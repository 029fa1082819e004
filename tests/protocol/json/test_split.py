"""Tests of splitting large bodies in short steps: validity, wire form, marks, and the cost of a step."""

import json
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest, StreamError, TooLarge
from durable_streams_server.protocol.json import mode as json_mode
from durable_streams_server.protocol.json import scan as json_scan
from durable_streams_server.protocol.json import wire as json_wire
from durable_streams_server.protocol.json.split import WINDOW, Splitter
from durable_streams_server.protocol.limits import MARK_SPACING, MAX_JSON_DEPTH, MAX_MESSAGES
from durable_streams_server.protocol.units import KIB, MIB

spaces = st.text(alphabet=" \t\n\r", max_size=3)
_LETTERS = ["a", "[", "]", "{", "}", ",", ":", "é", "😀", "0", "true"]
_ESCAPES = [r"\"", r"\\", r"\n", r"\/", r"\u00e9", r"\ud83d", r"\ude00", r"\ud83d\ude00"]
_NUMBERS = ["0", "-1", "12", "1.5", "-0.25e+7", "1E400", "123456789012345678901234567890"]
_LONG_NUMBERS = ["7" * 70, "0." + "3" * 70, "1e" + "0" * 70]
strings = st.lists(st.sampled_from([" ", *_LETTERS, *_ESCAPES]), max_size=12).map(
    lambda parts: '"' + "".join(parts) + '"'
)
atoms = strings | st.sampled_from(["true", "null", *_NUMBERS, *_LONG_NUMBERS])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Draws valid JSON with white space between all tokens."""
    if draw(st.integers(0, 5)) == 0:
        return draw(atoms)
    parts = [draw(values) for _ in range(draw(st.integers(0, 5)))]
    spaced = [draw(spaces) + part + draw(spaces) for part in parts]
    inside = ",".join(spaced) or draw(spaces)
    return draw(spaces) + "[" + inside + "]" + draw(spaces)


def _object(parts: list[tuple[str, str, str]]) -> str:
    return "{" + ",".join(f"{space}{key}{space}:{space}{part}" for space, key, part in parts) + "}"


values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: "[" + ",".join(parts) + "]")
        | st.lists(st.tuples(spaces, strings, inner), max_size=4).map(_object)
    ),
    max_leaves=12,
)


@st.composite
def damaged_documents(draw: st.DrawFn) -> bytes:
    """Draws JSON with a few bytes removed, inserted or replaced."""
    body = bytearray(draw(documents()).encode())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        new = draw(
            st.sampled_from([b"", *(bytes([one]) for one in b'[]{},:"\\ 01.e-tn\x01\xff\xc3')])
        )
        body[at : at + draw(st.integers(0, 2))] = new
    return bytes(body)


def split(body: bytes, *, window: int = WINDOW, max_messages: int = MAX_MESSAGES) -> bytes | str:
    """Returns the wire form that a splitter makes of a body, or the code of its error."""
    splitter = Splitter(body, window=window, max_messages=max_messages)
    try:
        while splitter.step():
            pass
    except StreamError as error:
        return error.code
    return splitter.wire


def split_by_standard_library(body: bytes) -> bytes | str:
    """Returns the wire form of a body as the standard library parses it, or the code of the expected error."""
    try:
        text = body.decode()
        if _depth(text) > MAX_JSON_DEPTH:
            return "INVALID_JSON"
        values = list(_values(text))
    except ValueError:
        return "INVALID_JSON"
    return "".join(value + "," for value in values).encode() or "EMPTY_ARRAY"


def _values(text: str) -> Iterator[str]:
    decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)
    text = text.strip(" \t\n\r")
    _, end = decoder.raw_decode(text)
    if end != len(text):
        raise ValueError(text)
    if text[0] != "[":
        yield text
        return
    at = 1
    while True:
        while text[at] in " \t\n\r,":
            at += 1
        if text[at] == "]":
            return
        _, end = decoder.raw_decode(text, at)
        yield text[at:end]
        at = end


def _refuse(name: str) -> None:
    raise ValueError(name)


def _depth(text: str) -> int:
    deepest = depth = at = 0
    in_string = False
    while at < len(text):
        letter = text[at]
        if in_string and letter == "\\":
            at += 1
        elif letter == '"':
            in_string = not in_string
        elif not in_string:
            depth += (letter in "[{") - (letter in "]}")
            deepest = max(deepest, depth)
        at += 1
    return deepest


@given(documents().map(str.encode), st.integers(8, 80))
@example(b'["' + b"a" * 70 + b'" ,' + b" " * 90 + b"2]", 16)
@example(b'{"a" : [ {"b":[1,2,{}]}, "\\\\" , [[]] ]  ,"c":0}', 8)
def test_wire_form_does_not_depend_on_the_scan_window_size(body: bytes, window: int) -> None:
    expected = split_by_standard_library(body)
    assert split(body, window=window) == expected
    if isinstance(expected, bytes):
        assert json_mode.to_wire(body) == expected


@given(
    damaged_documents() | st.text(alphabet='[]{},:" 01\\u', max_size=20).map(str.encode),
    st.integers(8, 40),
)
@example(b"[1],[2]", 8)
@example(b'["abcdefghijklmnop" 1]', 8)
@example(b"[[1,2,3,4,5,6,7,8}, 9]", 8)
@example(b'{"aaaaaaaaaaaaaaaaaaaa",1:2}', 8)
@example(b"[,-0.25e+7]", 8)
@example(b"[1,,2,3,4,5,6,7,8,9]", 8)
@example(b"[1,2,3,4,5,6,7,8,9,]", 8)
@example(b"[\\\\,1,2,3,4,5,6,7,8,9]", 8)
@example(b'["\\ud83d",\\ud83d,2,3,4,5,6]', 8)
def test_json_refusal_does_not_depend_on_the_scan_window_size(body: bytes, window: int) -> None:
    expected = split_by_standard_library(body)
    assert split(body, window=window) == expected
    try:
        wire: bytes | str = json_mode.to_wire(body)
    except BadRequest as error:
        wire = error.code
    assert wire == expected


@given(st.lists(values, min_size=1, max_size=20), st.integers(8, 40), st.integers(4, 30))
def test_splitter_finds_the_same_page_cut_marks_as_a_full_scan(
    texts: list[str], window: int, spacing: int
) -> None:
    with (
        patch.object(json_wire, "MARK_SPACING", spacing),
        patch.object(json_mode, "MARK_SPACING", spacing),
    ):
        splitter = Splitter(("[" + ",".join(texts) + "]").encode(), window=window)
        while splitter.step():
            pass
        walked = list(json_mode.walked_marks(splitter.wire))
        assert list(splitter.marks) == list(json_mode.marks(splitter.wire)) == walked
    assert len(list(json_mode.value_ends(splitter.wire))) == len(texts)


@pytest.mark.parametrize("depth", [MAX_JSON_DEPTH, MAX_JSON_DEPTH + 1])
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[1,"[",{"b":['])
@pytest.mark.parametrize("filling", [b"1", b'"%b"' % (b"x" * 300)])
def test_large_value_beyond_maximum_depth_is_refused(
    depth: int, opening: bytes, filling: bytes
) -> None:
    closing = {b"[": b"]", b'{"a":': b"}"}.get(opening, b"]}]")
    times, rest = divmod(depth, len(closing))
    body = opening * times + b"[" * rest + filling + b"]" * rest + closing * times
    for window in (8, 100, WINDOW):
        assert split(body, window=window) == split_by_standard_library(body)
    assert isinstance(split_by_standard_library(body), bytes) == (depth == MAX_JSON_DEPTH)


def test_body_with_too_many_values_is_refused() -> None:
    for body in (b"[1,2,3,4]", b'[[[[[1,2,3]]]],"long string",3,4]'):
        assert split(body, window=8, max_messages=4) == split_by_standard_library(body)
        assert split(body, window=8, max_messages=3) == "TOO_MANY_MESSAGES"
    with pytest.raises(TooLarge) as caught:
        json_mode.to_wire(b"[" + b"1," * MAX_MESSAGES + b"1]")
    assert caught.value.status == 413


def test_empty_array_is_accepted_if_allowed() -> None:
    splitter = Splitter(b" " * 100 + b"[ ]", allow_empty=True, window=8)
    while splitter.step():
        pass
    assert (splitter.wire, list(splitter.marks)) == (b"", [])


def hostile() -> dict[str, bytes]:
    """Returns bodies of 2 MiB by name. Each makes a parser spend much time per byte."""
    size = 2 * MIB
    staircase = b"[1," * 100 + b'"' + b"y" * 40_000 + b'"' + b"]" * 100
    wide = b"[" * 100 + b"1," * 400 + b"1" + b"]" * 100
    dense = b"[" + b"[]," * 11_500 + b"1]"
    return {
        "brackets in a string": b'["' + b"[" * size + b'"]',
        "quotes in a string": b'["' + b'\\"' * (size // 2) + b'"]',
        "backslashes": b'"' + b"\\\\" * (size // 2) + b'"',
        "characters": b'{"' + "é".encode() * (size // 2) + b'":1}',
        "numbers": b"[" + b"1," * (size // 2 - 1) + b"1]",
        "numbers inside": b"[[" + b"1," * (size // 2) + b"1]]",
        "a surrogate and numbers": b'["\\ud83d",[' + b"1," * (size // 2) + b"1]]",
        "arrays inside": b"[[" + b"[]," * (size // 3) + b"1]]",
        "keys": b"{" + b'"":0,' * (size // 5) + b'"":0}',
        "a number": b"[" + b"7" * size + b"]",
        "blanks": b"[1," + b" " * size + b"1 " + b"]",
        "blanks inside": b"[[1" + b" " * size + b"]]",
        "deep": b"[" + b",".join([b"[" * 120 + b"]" * 120] * (size // 241)) + b"]",
        "deep and wide": b"[" + b",".join([wide] * (size // len(wide))) + b"]",
        "staircases": b"[" + b",".join([staircase] * (size // len(staircase))) + b"]",
        "dense": b"[" + b",".join([dense] * (size // len(dense))) + b"]",
    }


@pytest.mark.parametrize("name", hostile())
def test_splitting_needs_at_most_twice_the_memory_of_the_body(name: str) -> None:
    body = hostile()[name]
    json_mode.to_wire(b"[" + b"1," * 40_000 + b"1]")  # compiles the regular expressions
    tracemalloc.start()
    try:
        splitter = Splitter(body)
        while splitter.step():
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The sum allows for the wire form, the spare room of its growing buffer, and the objects of one window.
    assert peak <= 2 * len(body) + MIB


@pytest.mark.parametrize("name", hostile())
def test_each_step_scans_a_bounded_number_of_bytes(name: str) -> None:
    body = hostile()[name]
    scanned = 0
    real = json_scan.last_separator

    def counted(text: bytes) -> tuple[int, bytes]:
        nonlocal scanned
        scanned += len(text)
        return real(text)

    with patch.object(json_scan, "last_separator", counted):
        splitter = Splitter(body)
        more = True
        while more:
            before, scanned_before = splitter.position, scanned
            more = splitter.step()
            # A step may skip up to four windows of white space.
            assert splitter.position - before <= 4 * WINDOW
            assert scanned - scanned_before <= 2 * WINDOW
    assert scanned <= 4 * len(body)


def test_splitter_drops_the_body_at_the_end_and_after_a_refusal() -> None:
    for body in (b"[1,2]" + b" " * 100, b"[1,2" + b" " * 100):
        splitter = Splitter(body, window=8)
        run(splitter)
        assert splitter._body == b""
        assert splitter._form.finish() == b""


def run(splitter: Splitter) -> None:
    """Runs a splitter to its end or its error."""
    try:
        while splitter.step():
            pass
    except BadRequest:
        return


def test_page_cut_marks_are_found_between_values_of_maximum_depth() -> None:
    deep = b'{"a":' * MAX_JSON_DEPTH + b'"%b"' % (b"x" * MARK_SPACING) + b"}" * MAX_JSON_DEPTH
    wire = json_mode.to_wire(deep) * 3
    assert list(json_mode.marks(wire)) == [len(wire) // 3, len(wire) // 3 * 2]


def test_page_cut_marks_in_a_large_array_are_spaced_apart() -> None:
    splitter = Splitter(b"[" + b",".join([b"1" * 999] * 200) + b"]")
    while splitter.step():
        pass
    for begin, end in pairwise([0, *splitter.marks]):
        assert MARK_SPACING <= end - begin < MARK_SPACING + 1000
    assert len(splitter.wire) == 200 * 1000
    assert WINDOW <= 64 * KIB
