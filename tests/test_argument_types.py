"""Every public function refuses an argument of the wrong type with a TypeError that names the argument, and changes nothing."""

import inspect
import os
import re
import types
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

import durable_streams_server as package
from durable_streams_server import (
    CreateOptions,
    CursorOptions,
    DurableStreamTestServer,
    FileBackedStreamStore,
    Streams,
    StreamStore,
    WebhookPolicy,
    create_app,
    webhooks,
)
from durable_streams_server.subscriptions.keys import generate, jwks, sign

NOW = 1_778_324_210
KEY = generate(NOW)

#: Values of many types. Most of them are wrong for most arguments.
POOL: Sequence[Any] = (
    None,
    True,
    5,
    1.5,
    "text",
    b"octets",
    object(),
    [],
    [[]],
    [5],
    ["text", 5],
    (5,),
    {},
    lambda: None,
)

#: Valid values of required arguments.
GIVEN: Mapping[str, Any] = {
    "path": "/a",
    "encoded": "YQ",
    "current_cursor": "7",
    "client_cursor": None,
    "previous_cursor": None,
    "raw_body": b"{}",
    "signature_header": sign(KEY, NOW, b"{}"),
    "keys": jwks([KEY], NOW),
    "url": "https://server.example/jwks.json",
    "issuer": "https://login.example",
    "audience": "streams",
    "token": "dst_a_b",
}
#: Valid values of arguments whose names mean something else in other functions.
GIVEN_TO: Mapping[str, Mapping[str, Any]] = {
    "Authenticator": {"keys": None},
    "sign_url": {"expires_at": NOW},
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "AccessControl": package.AccessControl,
    "Authenticator": package.Authenticator,
    "ClientLimits": package.ClientLimits,
    "CreateOptions": CreateOptions,
    "CursorOptions": CursorOptions,
    "DurableStreamTestServer": DurableStreamTestServer,
    "FileBackedStreamStore": FileBackedStreamStore,
    "JwksClient": webhooks.JwksClient,
    "JwtRules": package.JwtRules,
    "StreamStore": StreamStore,
    "WebhookPolicy": WebhookPolicy,
    "calculate_cursor": package.calculate_cursor,
    "create_app": create_app,
    "create_registry_hooks": package.create_registry_hooks,
    "decode_stream_path": package.decode_stream_path,
    "encode_stream_path": package.encode_stream_path,
    "generate_response_cursor": package.generate_response_cursor,
    "handle_cursor_collision": package.handle_cursor_collision,
    "sign_url": package.sign_url,
    "verify": webhooks.verify,
}
METHODS = {
    "JwksClient": ["verify"],
    "StreamStore": ["append", "create", "delete", "get", "has", "read"],
    "WebhookPolicy": ["check_url"],
}
#: Classes whose objects only the package creates.
RETURNED = {
    "AppendResult",
    "CreateResult",
    "HeadResult",
    "PendingLongPoll",
    "ReadResult",
    "Stream",
    "StreamLifecycleEvent",
    "StreamMessage",
    "StreamPage",
    "Streams",
}


def fits(value: Any, kind: Any) -> bool:
    """Returns whether a value has an annotated type. A bool does not count as a number, nor a string as a sequence."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if origin in (Callable, Awaitable) or getattr(kind, "_is_protocol", False):
        return callable(value)
    if origin in (Sequence, tuple):
        is_one = isinstance(value, origin) and not isinstance(value, str | bytes)
        return is_one and all(fits(item, parts[0]) for item in value)
    if origin is not None:
        return isinstance(value, origin)
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float and isinstance(value, int):
        return True
    return isinstance(value, types.NoneType if kind is None else kind)


def arguments(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Yields the name and the annotated type of each argument of a function."""
    target = function.__init__ if inspect.isclass(function) else function
    hints = typing.get_type_hints(target)
    if hasattr(function, "__struct_fields__"):
        hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            yield from typing.get_type_hints(package.TestServerOptions).items()
        elif name != "self":
            yield name, hints[name]


def cases() -> Iterator[Any]:
    """Yields each argument of each public function, with the values that have the wrong type."""
    found: list[tuple[str, Callable[..., Any]]] = [*FUNCTIONS.items()]
    for kind, methods in METHODS.items():
        found += [(f"{kind}.{name}", getattr(FUNCTIONS[kind], name)) for name in methods]
    for name, function in found:
        for argument, kind in arguments(function):
            wrong = [value for value in POOL if not fits(value, kind)]
            yield pytest.param(name, argument, wrong, id=f"{name}-{argument}")


def make(kind: str) -> Any:
    """Returns an object of a class, so that the test can call its methods."""
    if kind == "StreamStore":
        store = StreamStore()
        store.create("/a", "text/plain")
        return store
    return webhooks.JwksClient(GIVEN["url"]) if kind == "JwksClient" else WebhookPolicy()


@pytest.mark.parametrize(("name", "argument", "wrong"), list(cases()))
def test_public_function_refuses_argument_of_wrong_type_by_name(
    name: str, argument: str, wrong: Sequence[Any], tmp_path: Path
) -> None:
    kind, _, method = name.partition(".")
    owner = make(kind) if method else None
    function = getattr(owner, method) if method else FUNCTIONS[name]
    known = {name for name, _ in arguments(function)}
    given = {each: GIVEN[each] for each in known & set(GIVEN)} | dict(GIVEN_TO.get(name, {}))
    if name == "FileBackedStreamStore":
        given["path"] = tmp_path / "streams"
    assert len(wrong) > 5
    for value in wrong:
        with pytest.raises(TypeError) as caught:
            function(**{**given, argument: value})
        found = re.fullmatch(rf"{argument}(?:\[(\d+)\])? must be .*, not (\w+)", str(caught.value))
        assert found, caught.value
        culprit = value if found[1] is None else value[int(found[1])]
        assert found[2] == type(culprit).__name__
    if isinstance(owner, StreamStore):
        stream = owner.get("/a")
        assert stream is not None
        assert (stream.current_offset[-16:], stream.closed) == ("0" * 16, False)
        assert [*owner.paths()] == ["/a"]
    assert not [*tmp_path.iterdir()]


def test_every_public_function_is_in_table() -> None:
    """Public functions and classes are in `FUNCTIONS`, or another test covers them."""
    public = {
        name
        for name in package.__all__
        if callable(value := getattr(package, name))
        and not (inspect.isclass(value) and issubclass(value, Exception))
        and not get_origin(value)
    }
    aliases = {"TestServerOptions", "DurableStreamsApp", "Clock", "RegistryHook", "Store"}
    assert public - RETURNED - aliases == set(FUNCTIONS) - {"JwksClient", "verify"}
    assert set(webhooks.__all__) - set(FUNCTIONS) == {"Reason", "WebhookVerificationError"}
    documented = {"append", "create", "delete", "get", "has", "read"}
    assert documented == set(METHODS["StreamStore"])
    assert Streams.__doc__  # tests/streams/test_embedded.py covers it


def test_nested_list_of_hooks_is_refused_by_index() -> None:
    hooks: Any = [package.create_registry_hooks()]
    with pytest.raises(TypeError, match=r"hooks\[0\] must be a function.*not list"):
        create_app(hooks=hooks)


def test_data_directory_may_be_string_or_path_object(tmp_path: Path) -> None:
    class Named(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(tmp_path / "c")

    for path in (str(tmp_path / "a"), tmp_path / "b", Named()):
        FileBackedStreamStore(path, wal_size=6 << 20).close()
