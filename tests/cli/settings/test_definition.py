"""A sweep over all settings: flag, variable and file give the same value, and refuse the same bad values with the name of the source."""

import json
from pathlib import Path

import click
import pytest
from click.core import ParameterSource

from durable_streams_server.cli.settings.definition import Setting
from durable_streams_server.cli.settings.settings import ALL
from tests.cli.settings.samples import bad, file_of, flags, good, parsed, variables

every = pytest.mark.parametrize("setting", ALL, ids=lambda setting: setting.key)


@every
def test_flag_variable_and_file_give_the_same_value(setting: Setting, tmp_path: Path) -> None:
    value = good(setting)
    if setting.multiple:
        value = (value[0], value[0])
    assert value != setting.default
    file = ["--config", str(file_of(tmp_path, setting, value))]
    for arguments, environment, source in (
        (flags(setting, value), {}, ParameterSource.COMMANDLINE),
        ([], variables(setting, value), ParameterSource.ENVIRONMENT),
        (file, {}, ParameterSource.DEFAULT_MAP),
    ):
        values, ctx = parsed(arguments, environment)
        assert values[setting.name] == value
        assert type(values[setting.name]) is type(value)
        assert ctx.get_parameter_source(setting.name) is source


@every
def test_bad_value_is_refused_with_the_name_of_its_source(setting: Setting, tmp_path: Path) -> None:
    for text in bad(setting):
        file = str(file_of(tmp_path, setting, [text] if setting.multiple else as_number(text)))
        ways: list[tuple[list[str], dict[str, str], str]] = [
            (["--config", file], {}, f"'{setting.key}' in {file}")
        ]
        if text:  # an empty variable counts as not set
            ways.append(([], variables(setting, text), setting.envvar))
        if not setting.is_flag:
            ways.append((flags(setting, text), {}, f"'--{setting.key}'"))
        reasons = set()
        for arguments, environment, name in ways:
            with pytest.raises(click.UsageError) as refused:
                parsed(arguments, environment)
            said = refused.value.format_message()
            assert name in said
            assert "\n" not in said
            if "--config" not in arguments:
                reasons.add(said.replace(name, ""))
        assert len(reasons) <= 1


def as_number(text: str) -> object:
    """Returns the number that a text spells, or the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@every
def test_setting_explains_itself(setting: Setting) -> None:
    assert setting.help
    assert setting.help.endswith(".")
    assert (setting.default is None) == (setting.example is not None)


def test_default_is_shown_as_the_user_would_write_it() -> None:
    shown = {setting.key: setting.default_text for setting in ALL}
    assert shown["max-body"] == "64m"
    assert shown["long-poll-timeout"] == "30"
    assert shown["http2"] == "true"
    assert shown["cors-origin"] == "'local' on loopback without --auth, otherwise '*'"
    assert shown["uds"] == ""
    assert shown["max-connections-per-address"] == "half of --max-connections"


def test_value_with_a_line_break_is_refused_in_one_line() -> None:
    with pytest.raises(click.UsageError) as refused:
        parsed(["--host", "x", "--public-url", "a\nb\x9b"], {})
    assert refused.value.format_message().isprintable()
