"""The types of flags and arguments."""

import click
import pytest

from durable_streams_server.cli.values import DIRECTORY, HOST


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
