"""Tests of the comparison of two checkouts."""

import sys
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.row import Sample


def test_directory_that_is_not_a_checkout_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path), "append"])
    with pytest.raises(SystemExit, match="not a checkout"):
        compare.main()


def test_cpu_ratio_exceeds_one_if_this_checkout_needs_less_cpu() -> None:
    pairs = [(Sample(1.0, cpu=10.0), Sample(1.0, cpu=20.0))] * 3
    assert compare.cpu_ratio(pairs) == "; by CPU 2.00: 10 µs, base 20"
    assert compare.cpu_ratio([(Sample(1.0), Sample(1.0))]) == ""
