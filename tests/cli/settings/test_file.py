"""The settings file: unreadable files, unknown keys, and values of the wrong type."""

import os
from pathlib import Path

import pytest

from durable_streams_server.cli.settings.loading import BadSettings, Loaded, load_settings


def load(directory: Path, text: str | bytes) -> Loaded:
    file = directory / "a.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_settings(["--config", str(file)], {})


def test_file_gives_typed_values(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        'port = 1\nmax-body = "1m"\npage-size = 2048\nmemory = true\nsse-max-age = 5\n'
        'body-timeout = 0.5\ncors-origin = ["https://a.example", "https://b.example"]\n',
    ).settings
    assert (settings.port, settings.max_body, settings.page_size) == (1, 1 << 20, 2048)
    assert (settings.memory, settings.sse_max_age, settings.body_timeout) == (True, 5.0, 0.5)
    assert settings.cors_origin == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('port = "1"', "'port' in FILE must be a whole number, not a text"),
        ("port = 1.0", "'port' in FILE must be a whole number, not a number with a fraction"),
        ("port = true", "'port' in FILE must be a whole number, not a boolean"),
        ("port = [1]", "'port' in FILE must be a whole number, not a list"),
        ("[port]", "'port' in FILE must be a whole number, not a table"),
        ("port = 2026-01-01", "'port' in FILE must be a whole number, not a date or time"),
        ("port = 01:02:03", "'port' in FILE must be a whole number, not a date or time"),
        ("memory = 1", "'memory' in FILE must be true or false, not a whole number"),
        ('memory = "true"', "'memory' in FILE must be true or false, not a text"),
        ('sse-max-age = "5"', "'sse-max-age' in FILE must be a number, not a text"),
        ("sse-max-age = true", "'sse-max-age' in FILE must be a number, not a boolean"),
        (
            "max-body = 1.5",
            "'max-body' in FILE must be a number of bytes or a text such as \"64m\", not a number with a fraction",
        ),
        ("host = 1", "'host' in FILE must be a text, not a whole number"),
        ("log-level = 1", "'log-level' in FILE must be a text, not a whole number"),
        ('cors-origin = "*"', "'cors-origin' in FILE must be a list of texts, not a text"),
        (
            "cors-origin = [1]",
            "'cors-origin' in FILE must be a list of texts, not a list of something else",
        ),
        (
            "max_body = 1",
            "there is no setting 'max_body', which FILE sets; did you mean 'max-body'?",
        ),
        ("memroy = true", "there is no setting 'memroy', which FILE sets; did you mean 'memory'?"),
        ("colour = 1", "there is no setting 'colour', which FILE sets"),
        (r'"a\nb" = 1', r"there is no setting 'a\\nb', which FILE sets"),
        (
            "[serve]\nport = 1",
            "FILE has a table [serve], but every setting is a key at the top level",
        ),
        ("port = x", "FILE is not TOML: Invalid value (at line 1, column 8)"),
        (
            "port = 1\nport = 2\n",
            "FILE is not TOML: Cannot overwrite a value (at line 2, column 9)",
        ),
    ],
)
def test_unusable_file_is_refused_in_one_line(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as refused:
        load(tmp_path, line)
    assert refused.value.message == said.replace("FILE", str(tmp_path / "a.toml"))


@pytest.mark.parametrize(
    "text", [b"\xff = 1", b"port = " + b"9" * 5000, b"x = " + b"[" * 100_000, b"\0"]
)
def test_file_that_is_not_toml_is_refused_in_one_line(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"a\.toml is not TOML: ") as refused:
        load(tmp_path, text)
    assert refused.value.message.isprintable()


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbfport = 1\r\n").settings.port == 1


def test_unreadable_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    for file, reason in ((missing, "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(BadSettings) as refused:
            load_settings(["--config", str(file)], {})
        assert refused.value.message == f"cannot read the settings file: {file}: {reason}"
    with pytest.raises(BadSettings, match="the name is empty"):
        load_settings(["--config", ""], {})


def test_variable_names_the_file_and_a_flag_overrides_it(tmp_path: Path) -> None:
    for name, port in (("a.toml", 1), ("b.toml", 2)):
        (tmp_path / name).write_text(f"port = {port}")
    environment = {"DURABLE_STREAMS_CONFIG": str(tmp_path / "a.toml")}
    assert load_settings([], environment).settings.port == 1
    flags = ["--config", str(tmp_path / "b.toml")]
    assert load_settings(flags, environment).settings.port == 2


def test_name_of_the_file_may_be_any_bytes(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9\n")
    file.write_text("port = 70000")
    with pytest.raises(BadSettings) as refused:
        load_settings(["--config", str(file)], {})
    assert "caf\udce9\\n: 70000 is not in the range" in refused.value.message
