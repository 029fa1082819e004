"""Tests that the parts of a soak notice what they must notice."""

import io
from typing import Any

import pytest

from tests.soak.clients import watch
from tests.soak.readers import Event, EventReader, events
from tests.soak.remote import Remote
from tests.soak.server import Figures, Handles, SoakedServer
from tests.soak.soak import LOG_THREAD, MIB, OWN_FILES, Report, grown, repeat_command, restarts
from tests.soak.visitors import Visitors
from tests.soak.writers import Batches, Producer

SECONDS = 600.0
BEFORE = Figures(0.0, 40 * MIB, 3, Handles(3, ("catalog", "wal"), 9))

HELD = {"tasks": {"main": 1}, "threads": {"MainThread": 1}, "objects": {}}


def make_report(memory: int = 100, **fields: Any) -> Report:
    """Returns a report without faults, besides `fields`. The server takes `memory` MiB in the last quarter, and 100 in the third one."""
    samples = [
        Figures(at, size * MIB, 7, BEFORE.handles) for at, size in ((310.0, 100), (590.0, memory))
    ]
    report = Report(SECONDS, before=BEFORE, after=BEFORE, samples=samples)
    report.held_before = report.held_after = HELD
    for name, value in fields.items():
        setattr(report, name, value)
    return report


def test_report_without_faults_has_no_complaints() -> None:
    pools = HELD | {"threads": {"MainThread": 1, "read_#": 4, LOG_THREAD: 1}}
    report = make_report(memory=110, exits=[0, 0], held_after=pools)
    assert report.complaints() == []
    assert "100 in the third quarter, 110 in the last" in report.table()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"memory": 111}, "memory has grown"),
        ({"faults": ["a value is lost"]}, "a value is lost"),
        ({"exits": [0, 1]}, "an exit code is 1"),
        ({"log": ["2026-11-26 10:00:00,000 ERROR a request failed"]}, "a request failed"),
        ({"check": (1, "a log is too short")}, "a log is too short"),
        ({"left": ["/v1/stream/a"]}, "1 streams are left"),
        ({"held_after": HELD | {"threads": {"webhook-lookup": 1}}}, "1 threads webhook-lookup"),
        ({"held_after": HELD | {"threads": {LOG_THREAD: 2}}}, "2 threads durable-streams-log"),
        ({"held_after": HELD | {"threads": {"read_#": 100}}}, "100 threads read_#"),
        ({"after": BEFORE._replace(handles=BEFORE.handles._replace(sockets=4))}, "4 sockets"),
        ({"after": BEFORE._replace(handles=BEFORE.handles._replace(others=10))}, "10 other"),
        (
            {
                "after": BEFORE._replace(
                    handles=BEFORE.handles._replace(files=("a",) * (3 + OWN_FILES))
                )
            },
            "5 files are open",
        ),
        ({"gauges_after": {"live_readers sse": 2.0}}, "the gauge live_readers sse is 2 higher"),
        ({"held_after": HELD | {"tasks": {"main": 1, "send": 2}}}, "2 tasks send"),
    ],
)
def test_report_complains_about_each_kind_of_fault(fields: dict[str, Any], complaint: str) -> None:
    (said,) = make_report(**fields).complaints()
    assert complaint in said


def test_grown_numbers_are_those_above_the_numbers_before() -> None:
    assert grown({"a": 1, "b": 5}, {"a": 3, "b": 4, "c": 1}) == {"a": 2, "c": 1}


def test_restarts_depend_on_the_seed_only_and_end_before_the_second_half() -> None:
    plan = restarts(7, SECONDS)
    assert plan == restarts(7, SECONDS) != restarts(8, SECONDS)
    assert len(plan) >= 5
    assert plan[-1].at < SECONDS / 2
    assert sum(restart.is_kill for restart in plan) == 1


def test_repeat_command_names_the_seed() -> None:
    assert repeat_command(600.0, 3) == "make soak MINUTES=10 SEED=3"


def test_log_lines_above_info_are_unexpected(tmp_path: Any) -> None:
    server = SoakedServer(tmp_path, 0)
    bad = "2026-11-26 10:00:00,000 WARNING the disk is full"
    lines = [
        "2026-11-26 10:00:00,000 WARNING made the directory /tmp/x",
        "2026-11-26 10:00:00,000 INFO a delivery failed",
        "2026-11-26 10:00:00,000 WARNING a commit took 1.5 s, so the disk is slow or busy",
        bad,
        "Traceback (most recent call last):",
    ]
    server.log.write_text("\n".join(lines))
    assert server.unexpected_lines() == [bad, lines[-1]]


# -- clients ----------------------------------------------------------------


def make_batches() -> Batches:
    """Returns a writer that has sent three batches, of which the second has no known outcome."""
    batches = Batches(Remote(0), "batches", "1")
    batches._sizes = {0: 1, 1: 2, 2: 2}
    batches._acknowledged = {0, 2}
    return batches


FIRST = [{"b": 0, "i": 0}]
SECOND = [{"b": 1, "i": 0}, {"b": 1, "i": 1}]
THIRD = [{"b": 2, "i": 0}, {"b": 2, "i": 1}]


@pytest.mark.parametrize("values", [[*FIRST, *SECOND, *THIRD], [*FIRST, *THIRD]])
def test_batch_without_known_outcome_may_be_there_or_not(values: list[dict[str, int]]) -> None:
    make_batches().compare(values)


@pytest.mark.parametrize(
    "values",
    [
        [*FIRST, *SECOND],
        [*FIRST, *THIRD, *THIRD],
        [*FIRST, *THIRD, *SECOND],
        [*FIRST, *SECOND[:1], *THIRD],
        [*FIRST, *THIRD[:1]],
    ],
    ids=["lost", "doubled", "reordered", "torn", "cut"],
)
def test_stream_with_other_batches_is_a_fault(values: list[dict[str, int]]) -> None:
    with pytest.raises(AssertionError):
        make_batches().compare(values)


def make_follower() -> EventReader:
    """Returns a reader that has read the values 0 and 1."""
    remote = Remote(0)
    reader = EventReader(Producer(remote, "p", "1"), remote, "reader", "1")
    reader.take([{"n": 0}, {"n": 1}], "2")
    return reader


@pytest.mark.parametrize("numbers", [[3], [1, 2], [3, 2], [2, 2]])
def test_reader_notices_values_that_are_lost_doubled_or_reordered(numbers: list[int]) -> None:
    with pytest.raises(AssertionError, match="lost, doubled or reordered"):
        make_follower().take([{"n": number} for number in numbers], "9")


def test_reader_notices_a_stream_that_ends_early() -> None:
    reader = make_follower()
    reader._producer.lengths[reader._path] = 3
    with pytest.raises(AssertionError, match="ended at 2 instead of 3"):
        reader.end()


def test_client_blames_the_server_for_a_connection_that_breaks_while_it_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.soak.remote.NOTICE", 0.01)
    remote = Remote(0)

    def fail(_: object) -> None:
        raise ConnectionResetError("reset by peer")

    remote.persist(fail, "a client")
    assert remote.faults == [
        "a client: the connection broke while the server ran: ConnectionResetError('reset by peer')"
    ]


def test_exception_that_ends_a_client_is_a_fault() -> None:
    remote = Remote(0)

    def fail() -> None:
        raise ValueError("a mistake")

    watch(remote, fail)
    assert remote.faults == ["a client has failed: ValueError('a mistake')"]
    assert not remote.goes_on


def test_visitor_that_fails_ends_the_visits_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        remote.over.set()
        raise ValueError("a mistake")

    remote = Remote(0)
    monkeypatch.setattr(Visitors, "_visit", fail)
    with pytest.raises(ValueError, match="a mistake"):
        Visitors(remote, "1").run()


def test_events_of_a_response_are_parsed() -> None:
    text = b'retry:500\n\n: keep-alive\n\nevent:data\ndata:[1,\ndata:2]\n\nevent: control\ndata:{"a":1}\n\n'
    found = list(events(io.BytesIO(text).readline))
    assert found == [Event("data", "[1,\n2]"), Event("control", '{"a":1}')]
