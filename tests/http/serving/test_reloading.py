"""What a server reads again on SIGHUP."""

import pytest

from durable_streams_server.http.serving.reloading import Reloaders


def test_failed_reload_is_logged_in_one_line_and_others_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reloaders, done = Reloaders(), []

    def broken() -> None:
        raise ValueError("the file is empty")

    reloaders.add("the certificate", broken)
    reloaders.add("the tokens", lambda: done.append(1))
    reloaders.run()
    reloaders.run()
    assert done == [1, 1]
    assert [(record.levelname, record.getMessage()) for record in caplog.records[:2]] == [
        (
            "ERROR",
            "reload of the certificate failed, so nothing of it has changed: the file is empty",
        ),
        ("WARNING", "reloaded the tokens"),
    ]
    assert not any(record.exc_info for record in caplog.records)


def test_server_without_files_to_reload_says_so(caplog: pytest.LogCaptureFixture) -> None:
    Reloaders().run()
    assert [record.getMessage() for record in caplog.records] == [
        "SIGHUP: this server has nothing to reload"
    ]
