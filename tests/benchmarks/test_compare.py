"""How the servers of two checkouts are compared."""

import sys
from pathlib import Path

import pytest

from benchmarks import compare


def test_directory_that_is_no_checkout_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path), "append"])
    with pytest.raises(SystemExit, match="not a checkout"):
        compare.main()
