"""`durable-streams-server token`: creates, lists and revokes static tokens, tells what one may do, and signs URLs.

A token is printed once, when it is created. The other commands read tokens from standard input or the environment, because the arguments
of a process are visible to all users of the machine.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ..access import token_file
from ..access.signed_urls import MAX_SIGNED_SECONDS, sign_url
from ..access.static_tokens import StaticToken, create_text, is_token_id, parse_token
from ..errors import BadRequest
from ..protocol.paths import check_path
from ..protocol.permissions import (
    VERBS,
    Grant,
    TokenLimits,
    Verb,
    check_grants,
    explain,
    parse_grant,
)
from ..protocol.units import SECOND
from ..streams.clock import system_clock
from .data import moment
from .exits import EXIT_DATA, EXIT_FAILED, fail
from .output import reason, shown
from .settings.environment import PREFIX
from .values import Duration

#: The environment variable from which `sign-url` reads the token. Only clients use it, so the server does not take it for an unknown setting.
TOKEN_VARIABLE: Final = f"{PREFIX}TOKEN"
_LONGEST_LIFE: Final = 100 * 365 * 24 * 3600  # seconds
_LONGEST_NAME: Final = 200  # characters
_LONGEST_INPUT: Final = 4096  # characters

_F = TypeVar("_F", bound=Callable[..., Any])
_R = TypeVar("_R")


class _GrantType(click.ParamType[Grant]):
    """A grant, such as `read,append:/v1/stream/chat/*`."""

    name = "verbs:path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Grant:
        try:
            return parse_grant(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


_FILE: Final = click.option(
    "--file",
    "path",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The file of tokens.",
)
_LIMITS: Final = {
    "live_readers": "Live reads at once.",
    "appends_per_second": "Appends in a second.",
    "bytes_per_second": "Bytes of appends in a second.",
    "subscriptions": "Subscriptions that the token has created.",
    "body_bytes": "Bytes of one request body.",
}


def _limit_options(function: _F) -> _F:
    """Adds an option for each limit of a token. Without it, the default of the server applies."""
    for name, words in reversed(_LIMITS.items()):
        flag = f"--{name.replace('_', '-')}"
        option = click.option(flag, name, type=click.IntRange(1, 2**53 - 1), help=words)
        function = option(function)
    return function


@click.group()
def token() -> None:
    """Create, list, revoke and check static tokens, and sign URLs.

    A running server uses a changed file after it has received SIGHUP.
    """


@token.command(epilog="Exit codes: 0, 4 when FILE cannot be used.")
@_FILE
@click.option(
    "--allow",
    "grants",
    required=True,
    multiple=True,
    type=_GrantType(),
    help=f"Verbs and a path pattern, such as read,append:/v1/stream/chat/*. The verbs are {', '.join(VERBS)}. Can be repeated.",
)
@click.option(
    "--expires",
    type=Duration(_LONGEST_LIFE),
    help="Time after which the token ends, such as 30d. Without it, the token never ends.",
)
@click.option("--name", default="", help="What the token is for.")
@_limit_options
def create(
    path: Path, grants: tuple[Grant, ...], expires: int | None, name: str, **limits: int | None
) -> None:
    """Add a token to FILE, and print it.

    It is printed only this once, because FILE has only its hash. FILE is created if there is none.
    """
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise click.UsageError(f"--name must have at most {_LONGEST_NAME} printable characters")
    try:
        check_grants(grants)
    except ValueError as error:
        raise click.UsageError(f"--allow: {error}") from None
    text = create_text()
    presented = parse_token(text)
    assert presented is not None
    now = system_clock()
    ends = None if expires is None else now + expires * SECOND
    made = StaticToken(presented.id, presented.hash, grants, name, now, ends, TokenLimits(**limits))
    _with_file(lambda: token_file.add(path, made))
    click.echo(text)
    click.echo(f"token {made.id} is in {shown(str(path))}; {_reload()}", err=True)


@token.command("list", epilog="Exit codes: 0, 4 when FILE cannot be used.")
@_FILE
def list_(path: Path) -> None:
    """List the tokens in FILE: id, time of creation, expiry, name, grants and limits."""
    now = system_clock()
    for each in _with_file(lambda: token_file.load(path)):
        click.echo("\t".join(map(shown, _columns(each, now))))


@token.command(
    epilog="Exit codes: 0, 1 when FILE has no token with this ID, 4 when FILE cannot be used."
)
@_FILE
@click.argument("id_", metavar="ID")
def revoke(path: Path, id_: str) -> None:
    """Remove the token ID from FILE. URLs that it has signed end with it."""
    _check_id(id_)
    if not _with_file(lambda: token_file.remove(path, id_)):
        fail(f"there is no token {id_}", EXIT_FAILED)
    click.echo(f"token {id_} is revoked; {_reload()}", err=True)


@token.command(
    epilog="Exit codes: 0 when the token allows VERB on PATH, 1 when it does not, 4 when FILE cannot be used."
)
@_FILE
@click.option(
    "--token-stdin", "from_stdin", is_flag=True, help="Read the token from standard input."
)
@click.argument("words", metavar="[ID] VERB PATH", nargs=-1)
def check(path: Path, from_stdin: bool, words: tuple[str, ...]) -> None:
    """Tell whether a token allows VERB on PATH, and why.

    Name the token by its ID, or give the token itself with --token-stdin. PATH is the decoded path of the stream's URL.
    """
    if len(words) != (2 if from_stdin else 3):
        raise click.UsageError("give ID, VERB and PATH, or VERB and PATH with --token-stdin")
    verb, target = _check_verb(words[-2]), _check_target(words[-1])
    tokens = {each.id: each for each in _with_file(lambda: token_file.load(path))}
    if from_stdin:
        presented = parse_token(_read_token())
        if presented is None:
            fail("no: this is not a static token, dst_…", EXIT_FAILED)
        found = tokens.get(presented.id)
        if found is None or found.hash != presented.hash:
            fail("no: the file has no such token", EXIT_FAILED)
    else:
        _check_id(words[0])
        found = tokens.get(words[0])
        if found is None:
            fail(f"no: there is no token {words[0]}", EXIT_FAILED)
    allowed, why = explain(found.claims, verb, target, system_clock())
    click.echo(shown(f"{'yes' if allowed else 'no'}: {why}"))
    if not allowed:
        sys.exit(EXIT_FAILED)


@token.command("sign-url", epilog="Exit codes: 0, 1 when the token or URL is malformed.")
@click.option("--url", required=True, metavar="URL", help="The URL of a stream.")
@click.option(
    "--expires-in",
    type=Duration(MAX_SIGNED_SECONDS),
    default="5m",
    show_default=True,
    help="Time for which the signature is valid, at most 1d.",
)
@click.option(
    "--mount",
    default="",
    help="The beginning of the URL's path that the server does not see, because a proxy removes it or an application mounts the server there.",
)
def sign_url_(url: str, expires_in: int, mount: str) -> None:
    """Sign a URL, so that whoever has it can read the stream for a while.

    The token comes from the environment variable DURABLE_STREAMS_TOKEN, or from standard input. The server is not asked, so it may still
    refuse the URL: the token must allow to read the stream.
    """
    presented = os.environ.get(TOKEN_VARIABLE) or _read_token()
    try:
        signed = sign_url(url, presented, system_clock() // SECOND + expires_in, mount)
    except ValueError as error:
        fail(str(error), EXIT_FAILED)
    click.echo(signed)


def _with_file(action: Callable[[], _R]) -> _R:
    """Returns the result of an action on a token file. If the file cannot be used, prints one line and exits."""
    try:
        return action()
    except (token_file.TokenFileError, OSError) as error:
        fail(reason(error), EXIT_DATA)


def _read_token() -> str:
    """Returns the token on standard input."""
    return sys.stdin.read(_LONGEST_INPUT).strip()


def _check_id(id_: str) -> None:
    """Exits if an argument is no id of a token. The message does not repeat it, because it may be a token."""
    if not is_token_id(id_):
        raise click.UsageError("ID must be the 12 digits after dst_; never pass a whole token")


def _check_verb(text: str) -> Verb:
    for verb in VERBS:
        if verb == text:
            return verb
    raise click.UsageError(f"VERB must be one of {', '.join(VERBS)}")


def _check_target(text: str) -> str:
    try:
        return check_path(text)
    except BadRequest as error:
        raise click.UsageError(f"PATH: {error.message}") from None


def _columns(each: StaticToken, now: int) -> list[str]:
    """Returns the columns of a token in the list."""
    ends = each.expires_at
    if ends is None:
        expiry = "never expires"
    else:
        expiry = f"{'expired' if now >= ends else 'expires'} {moment(ends)}"
    limits = [
        f"{name}={value}"
        for name in each.limits.__struct_fields__
        if (value := getattr(each.limits, name)) is not None
    ]
    grants = " ".join(text for grant in each.grants for text in grant.texts)
    return [each.id, f"created {moment(each.created_at)}", expiry, each.name, grants, *limits]


def _reload() -> str:
    return "send the server SIGHUP so that it reads the file"
