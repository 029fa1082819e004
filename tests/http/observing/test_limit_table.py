"""`LimitTable` has one entry for each name."""

from durable_streams_server.http.observing.limit_table import LimitTable


def test_limits_are_read_when_they_are_shown_and_sorted_by_name() -> None:
    table = LimitTable()
    used = [1]
    table.add("streams", lambda: 10, lambda: used[0])
    table.add("connections", lambda: 20, lambda: 2)
    used[0] = 5
    assert [(name, limit(), now()) for name, limit, now in table] == [
        ("connections", 20, 2),
        ("streams", 10, 5),
    ]


def test_refusals_are_read_when_they_are_shown_and_sorted_by_name() -> None:
    table = LimitTable()
    refused = [1]
    table.add_refusals("rate", lambda: refused[0])
    table.add_refusals("appends", lambda: 3)
    refused[0] = 2
    assert table.refusals == [("appends", 3), ("rate", 2)]
    assert list(table) == []


def test_limit_with_the_same_name_is_replaced() -> None:
    table = LimitTable()
    table.add("streams", lambda: 10, lambda: 1)
    table.add("streams", lambda: 20, lambda: 2)
    assert [(limit(), used()) for _, limit, used in table] == [(20, 2)]
