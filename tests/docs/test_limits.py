"""Tests that check docs/limits.md against the constants of the source."""

import importlib
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.kinds import KINDS
from tests.hostile.siege import MARGIN

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"
SOURCE = Path(__file__).parents[2] / "src" / "durable_streams_server"
PACKAGE = "durable_streams_server"
UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
#: Constants that are named like limits but limit no request of a client. They limit settings, numbers, files on disk, or responses to
#: the server's own requests.
NOT_FOR_CLIENTS = {
    "DEFAULT_COOKIE",
    "DEFAULT_CURSOR_EPOCH",
    "DEFAULT_CURSOR_INTERVAL_SECONDS",
    "DEFAULT_CURSOR_OPTIONS",
    "DEFAULT_DATA_DIR",
    "DEFAULT_DRAIN",
    "DEFAULT_LEASE_TTL",
    "DEFAULT_LEEWAY",
    "DEFAULT_MAX_AGE",
    "DEFAULT_PORT",
    "DEFAULT_SEGMENT_SIZE",
    "DEFAULT_STREAM_ROOT",
    "MAX_ATTEMPTS",
    "MAX_CLOCK_INCARNATION",
    "MAX_CONNECTIONS",
    "MAX_DEADLINE",
    "MAX_DESCRIPTION",
    "MAX_FILES",
    "MAX_HOST_BYTES",
    "MAX_IDLE_CONNECTIONS",
    "MAX_IDLE_POOLS",
    "MAX_JITTER_SECONDS",
    "MAX_JWKS_BYTES",
    "MAX_KEYS",
    "MAX_KEY_SET_BYTES",
    "MAX_KID_BYTES",
    "MAX_LEASE_TTL",
    "MAX_PAGE_SIZE",
    "MAX_REPLY_BODY",
    "MAX_RETRY_DELAY",
    "MAX_SAFE_INTEGER",
    "MAX_SIZE",
    "MAX_TIME",
    "MAX_TOKENS",
    "MAX_WEBHOOK_URL_BYTES",
    "MAX_WORKER",
}


def rows(kind: str) -> list[list[str]]:
    """Returns the cells of each row of the tables of limits, or of the table of memory.

    Args:
        kind: `limits` or `memory`.
    """
    limits, _, memory = PAGE.read_text().partition("## The most memory")
    lines = (limits if kind == "limits" else memory).splitlines()
    found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    ]
    return [cells for cells in found if cells[0] not in ("limit", "what") and cells[0][:3] != "---"]


def value(cell: str) -> float:
    """Returns the value of a cell, which is a number with or without a unit, or the name of a constant."""
    if cell.startswith("`"):
        found: float = constant(cell.strip("`"))
        return found
    number, _, unit = cell.replace(",", "").partition(" ")
    return (float(number) if "." in number else int(number)) * UNITS[unit]


def constant(name: str) -> Any:
    """Returns the value of a constant of the source, or the default of a struct's field."""
    module, _, attribute = name.rpartition(".")
    if module.rpartition(".")[2][0].isupper():
        module, _, struct = module.rpartition(".")
        return getattr(getattr(importlib.import_module(f"{PACKAGE}.{module}"), struct)(), attribute)
    return getattr(importlib.import_module(f"{PACKAGE}.{module}"), attribute)


@pytest.mark.parametrize("cells", rows("limits"), ids=lambda cells: cells[0].strip("`"))
def test_limit_has_the_documented_value(cells: list[str]) -> None:
    name, default, _, reason, _ = cells
    assert constant(name.strip("`")) == (None if default == "none" else value(default))
    assert reason


def test_every_limit_in_the_source_is_documented() -> None:
    defined = {
        name
        for file in SOURCE.rglob("*.py")
        if file.parent.name != "testing"
        for name in re.findall(r"^((?:MAX|DEFAULT)_[A-Z_]+)\b.*=", file.read_text(), re.M)
    }
    documented = {cells[0].strip("`").rpartition(".")[2] for cells in rows("limits")}
    assert defined - documented == NOT_FOR_CLIENTS


def test_documented_settings_are_flags_of_serve() -> None:
    from durable_streams_server.cli.serve import serve

    flags = {flag for each in serve.params for flag in each.opts}
    named = {cells[2].strip("`") for cells in rows("limits") if cells[2].startswith("`--")}
    assert named <= flags


@pytest.mark.parametrize("cells", rows("memory")[:-1], ids=lambda cells: cells[0])
def test_documented_memory_limit_equals_its_count_times_its_size(cells: list[str]) -> None:
    _, count, each, shown = cells
    assert math.ceil(value(count) * value(each) / 1024**2) == value(shown)


def test_limits_page_states_the_hostile_client_kinds_and_memory_margin() -> None:
    said = PAGE.read_text()
    assert f"runs {len(KINDS)} kinds of hostile clients" in said
    assert f"this sum plus {MARGIN // 1024**2:,} MiB" in said


def test_documented_total_memory_is_the_sum_of_its_rows() -> None:
    *parts, whole = rows("memory")
    assert whole[0] == "**all**"
    assert sum(value(cells[3]) for cells in parts) == value(whole[3])
