"""Tests that the table of rows is consistent, and that servers without their program are left out."""

from pathlib import Path

import pytest

from benchmarks import servers
from benchmarks.rows import ROWS
from benchmarks.servers import KINDS


def test_benchmark_row_names_are_unique_and_their_servers_exist() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    assert {server for row in ROWS for server in row.servers} <= set(KINDS)


def test_benchmark_goals_refer_to_existing_rows_and_servers() -> None:
    by_name = {row.name: row for row in ROWS}
    for row in ROWS:
        if row.beside:
            assert by_name[row.beside].servers == row.servers
            assert by_name[row.beside].part == row.part
        for goal in row.goals:
            assert goal.server in row.servers
            if goal.to_server:
                assert goal.to_server in by_name[goal.to_row or row.name].servers


def test_benchmark_omits_a_server_whose_program_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    kinds = {"missing": KINDS["rust"]._replace(needs=program), "memory": KINDS["memory"]}
    monkeypatch.setattr(servers, "KINDS", kinds)
    assert servers.left_out() == {"missing": program}
    program.touch()
    assert servers.left_out() == {}
