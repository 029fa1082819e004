"""Tests of the checks of argument types, and of their error messages."""

import pytest

from durable_streams_server.protocol.arguments import (
    DATA,
    NUMBER,
    OPTIONAL_INT,
    require,
    require_callable,
    require_each,
)


def test_arguments_of_the_right_types_are_accepted() -> None:
    require(str, path="/a", name="")
    require(DATA, data=memoryview(b"x"))
    require(OPTIONAL_INT, ttl=None)
    require(bool, closed=True)


@pytest.mark.parametrize(
    ("kinds", "value", "message"),
    [
        (str, b"x", "value must be str, not bytes"),
        (NUMBER, "1", "value must be int or float, not str"),
        (DATA, 5, "value must be bytes, bytearray or memoryview, not int"),
        (OPTIONAL_INT, 1.5, "value must be int or None, not float"),
    ],
)
def test_wrong_type_is_refused_with_the_name_and_the_types(
    kinds: type | tuple[type, ...], value: object, message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        require(kinds, value=value)
    assert str(caught.value) == message


def test_bool_is_not_accepted_as_a_number() -> None:
    with pytest.raises(TypeError, match="seconds must be int or float, not bool"):
        require(NUMBER, seconds=True)


def test_callable_or_none_is_accepted_if_optional() -> None:
    require_callable(guard=print)
    require_callable(optional=True, guard=None)
    with pytest.raises(TypeError, match="guard must be a function, not NoneType"):
        require_callable(guard=None)
    with pytest.raises(TypeError, match="guard must be a function or None, not int"):
        require_callable(optional=True, guard=1)


@pytest.mark.parametrize("hosts", ["a.example", b"ab", 1, {"a"}])
def test_text_and_sets_are_not_accepted_as_sequences(hosts: object) -> None:
    with pytest.raises(TypeError, match="hosts must be a list or tuple of host names"):
        require_each(str, "host names", hosts=hosts)


def test_wrong_item_of_a_sequence_is_named_by_its_index() -> None:
    require_each(str, "host names", hosts=["a", "b"])
    with pytest.raises(TypeError, match=r"hosts\[1\] must be str, not int"):
        require_each(str, "host names", hosts=("a", 2))
