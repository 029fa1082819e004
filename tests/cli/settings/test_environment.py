"""Environment variables: lists, empty and unknown variables, and those of clients and of Kubernetes."""

import click
import pytest

from durable_streams_server.cli.settings.environment import Environment, variable_of
from durable_streams_server.cli.settings.loading import BadSettings, load_settings

KUBERNETES = {
    "DURABLE_STREAMS_SERVICE_HOST": "10.0.0.1",
    "DURABLE_STREAMS_SERVICE_PORT": "4437",
    "DURABLE_STREAMS_SERVICE_PORT_HTTP": "4437",
    "DURABLE_STREAMS_PORT": "tcp://10.0.0.1:4437",
    "DURABLE_STREAMS_PORT_4437_TCP": "tcp://10.0.0.1:4437",
    "DURABLE_STREAMS_PORT_4437_TCP_PROTO": "tcp",
    "DURABLE_STREAMS_PORT_4437_TCP_PORT": "4437",
    "DURABLE_STREAMS_PORT_4437_TCP_ADDR": "10.0.0.1",
    "DURABLE_STREAMS_SERVER_PORT": "tcp://10.0.0.1:4437",
    "DURABLE_STREAMS_SERVER_SERVICE_HOST": "10.0.0.1",
    "DURABLE_STREAMS_SERVER_PORT_4437_TCP": "tcp://10.0.0.1:4437",
}


def test_variable_is_the_prefix_and_the_name_in_upper_case() -> None:
    assert variable_of("max_body") == "DURABLE_STREAMS_MAX_BODY"


def test_commas_separate_the_values_of_a_repeated_setting() -> None:
    environment = {"DURABLE_STREAMS_WEBHOOK_ALLOW": "a.example, 10.0.0.0/8,b.example"}
    settings = load_settings([], environment).settings
    assert settings.webhook_allow == ("a.example", "10.0.0.0/8", "b.example")


def test_empty_variable_counts_as_not_set() -> None:
    assert load_settings([], {"DURABLE_STREAMS_PORT": "", "DURABLE_STREAMS_NONSENSE": ""})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DURABLE_STREAMS_MAX_BDY", "; did you mean 'DURABLE_STREAMS_MAX_BODY'?"),
        ("DURABLE_STREAMS_CONFG", "; did you mean 'DURABLE_STREAMS_CONFIG'?"),
        ("DURABLE_STREAMS_X\n", "; did you mean 'DURABLE_STREAMS_UDS'?"),
        ("DURABLE_STREAMS_", "; did you mean 'DURABLE_STREAMS_UDS'?"),
    ],
)
def test_unknown_variable_is_refused_with_the_nearest_known_one(name: str, meant: str) -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings([], {name: "1"})
    said = f"there is no setting for the environment variable {name!r}"
    assert refused.value.message == said + meant


def test_variables_of_other_programs_and_of_clients_are_ignored() -> None:
    environment = {"DURABLE_STREAM": "1", "DURABLE_STREAMS_TOKEN": "x", "DURABLE_STREAMS_URL": "y"}
    assert load_settings([], environment).settings == load_settings([], {}).settings


def test_variables_that_kubernetes_sets_for_a_service_are_ignored() -> None:
    assert load_settings([], KUBERNETES).settings == load_settings([], {}).settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DURABLE_STREAMS_PORT_X", "1"),
        ("DURABLE_STREAMS_SERVICE", "1"),
        ("DURABLE_STREAMS_SERVER_PORT", "1"),
        ("DURABLE_STREAMS_HOST_SERVICE", "tcp://10.0.0.1:1"),
    ],
)
def test_only_the_variables_of_kubernetes_are_ignored(name: str, value: str) -> None:
    environment = Environment({name: value})
    with pytest.raises(click.UsageError, match=name):
        environment.refuse_unknown(["DURABLE_STREAMS_PORT"])


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_PORT", "5")
    assert load_settings([]).settings.port == 5
