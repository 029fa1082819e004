"""The public names, pinned: a name that goes or comes is a decision, not an accident."""

import inspect
import subprocess
import sys
from importlib.metadata import metadata
from importlib.resources import files

import pytest

import durable_streams_server

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


def test_the_public_names_are_these() -> None:
    assert set(durable_streams_server.__all__) == NODE_README | OURS
    assert set(durable_streams_server.__all__) <= set(dir(durable_streams_server))


@pytest.mark.parametrize("name", sorted(NODE_README | OURS))
def test_each_name_can_be_imported(name: str) -> None:
    assert getattr(durable_streams_server, name) is not None


@pytest.mark.parametrize("name", sorted(NODE_README | OURS))
def test_each_class_and_function_is_documented(name: str) -> None:
    value = getattr(durable_streams_server, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return  # a constant or a type alias is documented where it stands
    assert inspect.getdoc(value)
    for method_name, method in inspect.getmembers(value, inspect.isfunction):
        if not method_name.startswith("_"):
            assert inspect.getdoc(method), f"{name}.{method_name}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        durable_streams_server.nonsense  # noqa: B018


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys, durable_streams_server; "
        "print([name for name in sys.modules if name.startswith('durable_streams_server.')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_package_is_typed_and_licensed() -> None:
    assert files("durable_streams_server").joinpath("py.typed").is_file()
    about = metadata("durable-streams-server")
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.11"
