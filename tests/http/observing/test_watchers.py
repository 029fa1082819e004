"""Tests that several watchers get each report."""

from durable_streams_server.http.observing.observer import Observer
from durable_streams_server.http.observing.watchers import Watchers, watch
from durable_streams_server.http.request import Request
from tests.http.observing.reports import PEER, Clock, Recorder

REQUEST = Request("GET", b"/a", b"", {})


def test_each_watcher_gets_each_report_and_what_it_kept_itself() -> None:
    observer, first, second = Observer(Clock()), Recorder(), Recorder()
    watch(observer, [first, second], names_requests=False)
    observer.finished(REQUEST, 200, 100.0, 5, PEER)
    live = observer.live_began(REQUEST, 200, 100.0, PEER)
    live.add(7)
    live.end()
    for recorder in (first, second):
        assert recorder.finished_ == [("read", 200, 5, PEER)]
        assert recorder.began == [("/a", 200, PEER)]
        assert recorder.ended == [("/a", 7)]


def test_watcher_is_added_to_the_present_ones() -> None:
    observer, first, second = Observer(Clock()), Recorder(), Recorder()
    watch(observer, [first], names_requests=True)
    assert observer.watcher is first
    watch(observer, [second], names_requests=False)
    assert isinstance(observer.watcher, Watchers)
    assert observer.names_requests
    observer.finished(REQUEST, 200, 100.0, 5, PEER)
    assert len(first.finished_) == len(second.finished_) == 1


def test_observer_without_watchers_stays_as_it_is() -> None:
    observer = Observer(Clock())
    watch(observer, [], names_requests=False)
    assert observer.watcher is None
    assert not observer.names_requests
