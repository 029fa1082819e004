"""Pins the public names, so that no name is added or removed by accident, and checks their docstrings and types."""

import builtins
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, metadata, version
from importlib.resources import files
from typing import Any

import pytest

import durable_streams_server
from durable_streams_server import webhooks

NODE_README = {
    "DEFAULT_CURSOR_EPOCH",
    "DEFAULT_CURSOR_INTERVAL_SECONDS",
    "CreateOptions",
    "CursorOptions",
    "DurableStreamTestServer",
    "FileBackedStreamStore",
    "PendingLongPoll",
    "ReadResult",
    "Stream",
    "StreamLifecycleEvent",
    "StreamLifecycleHook",
    "StreamMessage",
    "StreamStore",
    "TestServerOptions",
    "calculate_cursor",
    "create_registry_hooks",
    "decode_stream_path",
    "encode_stream_path",
    "generate_response_cursor",
    "handle_cursor_collision",
}
OURS = {
    "AppendResult",
    "ClientLimits",
    "AccessControl",
    "Authenticator",
    "JwtRules",
    "sign_url",
    "Clock",
    "Damaged",
    "DirectoryRefused",
    "RegistryHook",
    "Store",
    "BadRequest",
    "Conflict",
    "CreateResult",
    "DurableStreamsApp",
    "Forbidden",
    "Gone",
    "Guard",
    "HeadResult",
    "MethodNotAllowed",
    "NotFound",
    "OffsetMismatch",
    "ProducerFenced",
    "Scope",
    "SequenceGap",
    "StorageFull",
    "StoreForked",
    "StreamClosed",
    "StreamDamaged",
    "StreamError",
    "StreamPage",
    "Streams",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Verb",
    "WebhookPolicy",
    "create_app",
}


def test_package_exports_exactly_these_names() -> None:
    assert set(durable_streams_server.__all__) == NODE_README | OURS
    assert set(durable_streams_server.__all__) <= set(dir(durable_streams_server))


@pytest.mark.parametrize("name", sorted(NODE_README | OURS))
def test_public_name_can_be_imported(name: str) -> None:
    assert getattr(durable_streams_server, name) is not None


@pytest.mark.parametrize("name", sorted(NODE_README | OURS))
def test_public_class_or_function_has_docstring(name: str) -> None:
    value = getattr(durable_streams_server, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return  # constants and type aliases have no docstring
    assert inspect.getdoc(value)
    for method_name, method in inspect.getmembers(value, inspect.isfunction):
        if not method_name.startswith("_"):
            assert inspect.getdoc(method), f"{name}.{method_name}"


#: The public methods of these classes. Other methods are for the server only.
METHODS = {
    "Authenticator": ["reload"],
    "DurableStreamsApp": ["begin_drain", "begin_shutdown", "stop"],
    "FileBackedStreamStore": ["append", "close", "create", "delete", "get", "has", "read"],
    "PendingLongPoll": [],
    "RegistryHook": [],
    "Store": [],
    "StreamStore": ["append", "close", "create", "delete", "get", "has", "read"],
    "WebhookPolicy": ["check_url"],
}
#: Classes that only the server creates. Their constructors are not public.
NOT_MADE = {"DurableStreamsApp", "PendingLongPoll", "RegistryHook", "Store", "Streams"}


def public_functions() -> Iterator[tuple[str, Any]]:
    """Yields the name of each public function, method, property and class, with the object that has its annotations and docstring."""
    for module in (durable_streams_server, webhooks):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield name, value
            elif inspect.isclass(value):
                yield from members(name, value)


def members(name: str, kind: type) -> Iterator[tuple[str, Any]]:
    """Yields the public parts of a class, in the form that `public_functions` yields."""
    is_error = issubclass(kind, Exception)
    if name not in NOT_MADE | set(METHODS):
        yield name, kind
    if name not in NOT_MADE and not is_error and "__init__" in vars(kind):
        yield f"{name}()", vars(kind)["__init__"]
    for member, value in inspect.getmembers(kind):
        if member.startswith("_") or member not in METHODS.get(name, [member]):
            continue
        function = value.fget if isinstance(value, property) else value
        if inspect.isfunction(function):
            yield f"{name}.{member}", function


def our_types(kind: Any) -> Iterator[type]:
    """Yields the classes of this package that an annotation names."""
    if isinstance(kind, list | tuple):
        for part in kind:
            yield from our_types(part)
    elif isinstance(kind, type) and kind.__module__.startswith("durable_streams_server"):
        yield kind
    yield from (found for part in typing.get_args(kind) for found in our_types(part))


def raised(function: Callable[..., Any]) -> Iterator[str]:
    """Yields the names of the exceptions that a docstring lists."""
    listed = re.search(r"[Rr]aises:\n((?: .*\n?)+)", inspect.getdoc(function) or "")
    for line in (listed[1] if listed else "").splitlines():
        if names := re.match(r" {4}((?:[A-Z]\w+, )*[A-Z]\w+)(?:[:.]|$)", line):
            yield from names[1].split(", ")


PUBLIC = dict(public_functions())


@pytest.mark.parametrize("name", PUBLIC)
def test_types_in_public_signatures_are_public(name: str) -> None:
    public = {
        value
        for module in (durable_streams_server, webhooks)
        for each in module.__all__
        if inspect.isclass(value := getattr(module, each))
    }
    hints = typing.get_type_hints(PUBLIC[name])
    hints.pop("open_keys", None)  # of `Authenticator`, for tests
    assert set(our_types([*hints.values()])) <= public
    owner = getattr(durable_streams_server, name.removesuffix("()"), PUBLIC[name])
    for error in {*raised(PUBLIC[name]), *raised(owner)}:
        assert hasattr(builtins, error) or error in {kind.__name__ for kind in public}, error


def test_public_functions_finds_nested_types_and_errors() -> None:
    assert {"StreamStore.append", "Streams.follow", "create_app", "verify"} <= set(PUBLIC)
    found = [*our_types(typing.get_type_hints(PUBLIC["create_registry_hooks"])["return"])]
    assert {kind.__name__ for kind in found} == {"RegistryHook", "StreamLifecycleEvent"}
    assert {"StreamClosed", "Gone"} <= set(raised(PUBLIC["StreamStore.append"]))
    assert "DirectoryRefused" in raised(durable_streams_server.FileBackedStreamStore)


def test_version_equals_version_of_installed_package() -> None:
    assert durable_streams_server.__version__ == version("durable-streams-server")
    shown = subprocess.run(
        [sys.executable, "-m", "durable_streams_server", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == [
        "durable-streams-server,",
        "version",
        durable_streams_server.__version__,
    ]


def test_version_of_uninstalled_package_raises_attribute_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.delitem(vars(durable_streams_server), "__version__", raising=False)
    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(AttributeError, match="not installed"):
        _ = durable_streams_server.__version__


def test_python_m_runs_command() -> None:
    command = [sys.executable, "-m", "durable_streams_server"]
    shown = subprocess.run([*command, "serve", "--help"], capture_output=True, text=True)
    assert (shown.returncode, "Usage: durable-streams-server serve" in shown.stdout) == (0, True)


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = durable_streams_server.nonsense


def test_importing_package_imports_no_submodule() -> None:
    code = (
        "import sys, durable_streams_server; "
        "print([name for name in sys.modules if name.startswith('durable_streams_server.')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_package_has_type_marker_and_license() -> None:
    assert files("durable_streams_server").joinpath("py.typed").is_file()
    about = metadata("durable-streams-server")
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.11"
