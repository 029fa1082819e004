"""How commands exit with an error."""

import pytest

from durable_streams_server.cli.exits import EXIT_DATA, fail


def test_fail_prints_one_line_and_exits_with_the_given_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        fail("the directory cannot be used", EXIT_DATA)
    assert ended.value.code == EXIT_DATA == 4
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (
        "",
        "durable-streams-server: the directory cannot be used\n",
    )
