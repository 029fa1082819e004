"""Tests of a wire form and its marks, built value by value."""

from unittest.mock import patch

import pytest

from durable_streams_server.errors import TooLarge
from durable_streams_server.protocol.json import wire
from durable_streams_server.protocol.json.wire import WireForm


def test_each_value_is_followed_by_a_comma() -> None:
    form = WireForm(3)
    form.add_values([b"1", b"[2]"])
    form.write(b'"long ')
    form.write(b'string"')
    form.end_value()
    assert form.finish() == b'1,[2],"long string",'
    assert form.messages == 3


def test_value_beyond_the_maximum_number_is_refused() -> None:
    form = WireForm(1)
    form.add_values([b"1"])
    with pytest.raises(TooLarge):
        form.end_value()


def test_page_cut_marks_are_spaced_and_never_at_the_end() -> None:
    with patch.object(wire, "MARK_SPACING", 4):
        form = WireForm(10)
        form.add_values([b"1", b"2", b"3"])
        form.write(b"12345")
        form.end_value()
        assert list(form.marks) == [4, 12]
        assert len(form.finish()) == 12
        assert list(form.marks) == [4]
