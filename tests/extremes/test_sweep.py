"""A failing sweep names the command that runs the failing cases again."""

import itertools
import shlex

import pytest

from tests.extremes import sweep
from tests.extremes.cases import Case, every_case
from tests.extremes.sweep import numbered, repeating_command, run_batch


def test_numbered_returns_the_cases_with_the_given_numbers() -> None:
    some = list(itertools.islice(every_case(), 20))
    assert [case.number for case in some] == list(range(1, 21))
    assert numbered("3,17") == [some[2], some[16]]


@pytest.mark.parametrize("culprits", [{5}, {2, 7}])
def test_failure_message_has_the_command_that_repeats_its_cases(
    culprits: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = list(itertools.islice(every_case(), 8))

    def fail_if_all_are_there(tried: list[Case], *_: object) -> Exception | None:
        return ValueError() if culprits <= {case.number for case in tried} else None

    monkeypatch.setattr(sweep, "_failure_of", fail_if_all_are_there)
    with pytest.raises(AssertionError) as failed:
        run_batch(cases, "asgi", "memory", -5)
    found = [case for case in cases if case.number in culprits] if len(culprits) == 1 else cases
    command = repeating_command(found, "asgi", "memory", -5)
    assert str(failed.value).endswith(f"\n{command}")


def test_repeating_command_runs_only_the_named_cases(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[object, ...]] = []
    monkeypatch.setattr(sweep, "run_batch", lambda *given: ran.append(given))
    cases = numbered("3,17")
    command = repeating_command(cases, "native", "files", -5)
    arguments = shlex.split(command.partition("tests.extremes.sweep")[2])
    assert sweep.main(arguments) == 0
    assert ran == [(cases, "native", "files", -5)]
    assert "native, files: 2 cases" in capsys.readouterr().out
