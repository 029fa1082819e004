"""The types of flags and arguments."""

import click
import pytest

from durable_streams_server.cli.values import DIRECTORY, FILE, HOST, Checked, Duration, Size
from durable_streams_server.errors import BadRequest


def test_directory_may_be_any_path() -> None:
    for name in ("/nowhere/at/all", "/dev/null", "caf\udce9", "."):
        assert DIRECTORY.convert(name, None, None) == name


def test_empty_directory_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="the name is empty"):
        DIRECTORY.convert("", None, None)


def test_host_may_be_a_name_or_an_address() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "m\u00fcnchen.example"):
        assert HOST.convert(host, None, None) == host


@pytest.mark.parametrize(("host", "said"), [("", "is every address"), ("\udcff", "not UTF-8")])
def test_empty_or_undecodable_host_is_refused(host: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        HOST.convert(host, None, None)


def test_size_is_a_number_with_an_optional_unit() -> None:
    size = Size(1, 1 << 40)
    for text, number in (("1", 1), ("2K", 2048), ("3m", 3 << 20), ("1g", 1 << 30), (5, 5)):
        assert size.convert(text, None, None) == number


@pytest.mark.parametrize("value", [0, -1, 1001, "0", "1k", "1x", "", "1.5", 10**20])
def test_size_out_of_range_is_refused_as_number_and_as_text(value: object) -> None:
    with pytest.raises(click.BadParameter):
        Size(1, 1000).convert(value, None, None)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1, "1"), (1024, "1k"), (1500, "1500"), (1 << 40, "1024g")]
)
def test_size_is_written_in_the_largest_whole_unit(size: int, text: str) -> None:
    assert Size(0, 1).text(size) == text


def test_empty_file_name_is_refused() -> None:
    assert FILE.convert("a", None, None) == "a"
    with pytest.raises(click.BadParameter, match="the name is empty"):
        FILE.convert("", None, None)


@pytest.mark.parametrize("error", [ValueError, BadRequest])
def test_checked_text_is_refused_with_the_words_of_its_check(error: type[Exception]) -> None:
    def check(text: str) -> None:
        if text == "bad":
            raise error("it is bad")

    kind = Checked("thing", check)
    assert kind.convert("good", None, None) == "good"
    with pytest.raises(click.BadParameter, match="it is bad"):
        kind.convert("bad", None, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), ("5m", 300), ("12h", 43_200), ("1d", 86_400)]
)
def test_duration_is_converted_to_seconds(text: str, seconds: int) -> None:
    assert Duration(86_400).convert(text, None, None) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "m", "-5m", "5 m", "5M", "1.5h", "1h30m", "1" * 13 + "s"]
)
def test_text_without_number_and_unit_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time such as 90s, 5m, 12h or 30d"):
        Duration(86_400).convert(text, None, None)


@pytest.mark.parametrize("text", ["0s", "86401s", "2d", "999999999999d"])
def test_duration_has_a_range(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not between 1s and 86400s"):
        Duration(86_400).convert(text, None, None)
