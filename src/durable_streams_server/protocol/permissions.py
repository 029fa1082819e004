"""The permissions of one client: which verbs it may use on which paths, and its own limits.

A grant allows verbs on path patterns. The patterns have the syntax of subscriptions (`subscriptions/globs.py`) after a leading slash,
and match the decoded path below the application's mount: `/v1/stream/chat/*`, `/**`. What no grant allows is forbidden.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from ..errors import BadRequest
from .limits import MAX_SAFE_INTEGER
from .subscriptions.glob_containment import covers
from .subscriptions.globs import Globs, check_pattern, matches

Verb = Literal["create", "append", "read", "close", "delete", "fork", "subscribe", "admin"]
#: All verbs, in the order in which they are printed.
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)

#: Maximum patterns in all grants of one token. Each takes about 1.5 KiB in the index of the token.
MAX_PATTERNS: Final = 64

_LISTED: Final = re.compile(r"[a-z]+(?:,[a-z]+)*")


class Grant(msgspec.Struct, frozen=True):
    """Verbs that are allowed on the paths that match at least one of the patterns. `grant_of` returns a checked one."""

    verbs: frozenset[Verb]
    paths: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """The grant as `parse_grant` takes it, one text for each pattern."""
        verbs = ",".join(in_order(self.verbs))
        return [f"{verbs}:{path}" for path in self.paths]


class TokenLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The limits of one token. None stands for the default of the server.

    A token cannot limit connections, because a connection begins before the request that has the token.

    Attributes:
        live_readers: live reads at once.
        appends_per_second: appends in a second.
        bytes_per_second: bytes of appends in a second.
        subscriptions: subscriptions that the token has created.
        body_bytes: bytes of one request body.
    """

    live_readers: int | None = None
    appends_per_second: int | None = None
    bytes_per_second: int | None = None
    subscriptions: int | None = None
    body_bytes: int | None = None

    def __post_init__(self) -> None:
        """Checks that each limit is from 1 to 2^53 - 1. A grant, not a limit of 0, decides whether something is forbidden.

        Raises:
            ValueError: a limit is out of range.
        """
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MAX_SAFE_INTEGER:
                raise ValueError(f"the limit {name} must be from 1 to 2^53 - 1")


NO_LIMITS: Final = TokenLimits()


class Claims(msgspec.Struct, frozen=True, dict=True):
    """What the server knows of a client that it has recognised.

    Attributes:
        subject: who the client is: `token:` and the id of a static token, or `jwt:` and the subject of a JWT. It is no secret.
        grants: what the client may do.
        expires_at: microseconds since 1970 at which the claims end, or None.
        limits: the limits of this client.
        only: the one path to which a signed URL restricts the grants, or None.
    """

    subject: str
    grants: tuple[Grant, ...]
    expires_at: int | None = None
    limits: TokenLimits = NO_LIMITS
    only: str | None = None

    @cached_property
    def index(self) -> Globs[Verb]:
        """The verbs by pattern, without the leading slash."""
        index: Globs[Verb] = Globs()
        for grant in self.grants:
            for pattern in grant.paths:
                for verb in grant.verbs:
                    index.add(pattern[1:], verb)
        return index


class Explanation(NamedTuple):
    """A decision about a verb on a path, and the reason for it as one sentence."""

    allowed: bool
    reason: str


def allows(claims: Claims, verb: Verb, path: str) -> bool:
    """Returns whether the grants allow a verb on a path. The caller checks whether the claims have expired.

    Args:
        claims: the claims of the client.
        verb: what the client is about to do.
        path: the decoded path below the mount, with its leading slash.
    """
    if claims.only is not None and path != claims.only:
        return False
    return any(verb in verbs for verbs in claims.index.groups(path[1:]))


def allows_pattern(claims: Claims, verb: Verb, pattern: str) -> bool:
    """Returns whether the grants provably allow a verb on each path that a pattern can match.

    The grants may cover the pattern together, such as `/a/b` and `/a/*/**/b` the pattern `/a/**/b`. The answer is False for the few
    patterns for which the proof would take too long.

    Args:
        claims: the claims of the client.
        verb: what the client is about to do on all these paths.
        pattern: a pattern with a leading slash, which is otherwise valid for `check_pattern`.
    """
    if claims.only is not None:
        return "*" not in pattern and allows(claims, verb, pattern)
    return covers((each[1:] for each in _patterns(claims, verb)), pattern[1:])


def explain(claims: Claims, verb: Verb, path: str, now: int) -> Explanation:
    """Returns whether a client may use a verb on a path at `now`, in microseconds since 1970, and why."""
    if claims.expires_at is not None and now >= claims.expires_at:
        return Explanation(False, "the token has expired")
    if claims.only is not None and path != claims.only:
        return Explanation(False, f"the URL was signed for {claims.only} alone")
    for pattern in _patterns(claims, verb):
        if matches(pattern[1:], path[1:]):
            return Explanation(True, f"the token allows {verb} on {pattern}")
    others = in_order(
        {other for verbs in claims.index.groups(path[1:]) for other in verbs},
    )
    if others:
        return Explanation(False, f"the token allows only {', '.join(others)} on this path")
    elsewhere = ", ".join(dict.fromkeys(_patterns(claims, verb)))
    if elsewhere:
        return Explanation(False, f"the token allows {verb} only on {elsewhere}")
    return Explanation(False, f"the token allows {verb} nowhere")


def grant_of(verbs: Iterable[str], paths: Iterable[str]) -> Grant:
    """Returns a grant, after checking its verbs and its patterns.

    Raises:
        ValueError: a verb is unknown, a pattern is invalid, or there are none. The message says which.
    """
    checked = frozenset(map(_check_verb, verbs))
    patterns = tuple(map(check_path_pattern, paths))
    if not checked or not patterns:
        raise ValueError("a grant needs at least one verb and one path")
    return Grant(checked, patterns)


def parse_grant(text: str) -> Grant:
    """Returns the grant that a text such as `read,append:/v1/stream/chat/*` stands for.

    Raises:
        ValueError: the text is malformed. The message says how.
    """
    verbs, colon, pattern = text.partition(":")
    if not colon or _LISTED.fullmatch(verbs) is None:
        raise ValueError(
            "a grant is verbs, a colon and a path, as in read,append:/v1/stream/chat/*"
        )
    return grant_of(verbs.split(","), [pattern])


def check_grants(grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """Returns the grants unchanged, after checking that there are neither none nor too many.

    Raises:
        ValueError: there are none, or they have too many patterns.
    """
    if not grants:
        raise ValueError("a token needs at least one grant")
    if sum(len(grant.paths) for grant in grants) > MAX_PATTERNS:
        raise ValueError(f"the grants of a token have at most {MAX_PATTERNS} paths")
    return grants


def check_path_pattern(pattern: str) -> str:
    """Returns a pattern with a leading slash unchanged, after checking that it can match a path.

    Raises:
        ValueError: it cannot. The message says why.
    """
    if not pattern.startswith("/"):
        raise ValueError("a path must begin with a slash, as in /v1/stream/chat/*")
    try:
        check_pattern(pattern[1:])
    except BadRequest as error:
        raise ValueError(error.message) from None
    return pattern


def in_order(verbs: Iterable[Any]) -> list[Verb]:
    """Returns verbs in the order of VERBS."""
    known = set(verbs)
    return [verb for verb in VERBS if verb in known]


def _check_verb(verb: str) -> Verb:
    for known in VERBS:
        if verb == known:
            return known
    raise ValueError(f"there is no such verb; the verbs are {', '.join(VERBS)}")


def _patterns(claims: Claims, verb: Verb) -> Iterator[str]:
    """Yields the patterns on which the grants allow a verb."""
    for grant in claims.grants:
        if verb in grant.verbs:
            yield from grant.paths
