"""Settings for browsers and shared caches."""

import dataclasses

import click

from ...http.browser import check_origin
from ...http.options import LONGEST_CACHE_AGE
from ..values import Checked
from .definition import Topic, setting
from .sources import Sources

#: The value of `--cors-origin` that allows no origin.
_NONE = "none"


def _check_origin(text: str) -> None:
    if text != _NONE:
        check_origin(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Browsers(Topic):
    """Browsers and shared caches."""

    cors_origin: tuple[str, ...] = setting(
        ("*",),
        "Origin that browsers may call from; may be repeated. '*' is any, 'none' is none.",
        kind=Checked("origin", _check_origin),
        metavar="ORIGIN",
    )
    shared_cache_age: int = setting(
        0,
        "How long shared caches, such as a CDN, may keep a page that can still grow; "
        "with 0 every cache asks each time whether its page is current.",
        kind=click.IntRange(0, LONGEST_CACHE_AGE),
        metavar="SECONDS",
    )

    def cors_origins(self) -> tuple[str, ...]:
        """Returns the origins that may call, for the argument `cors` of `create_app`."""
        return () if self.cors_origin == (_NONE,) else self.cors_origin

    def check(self, sources: Sources) -> None:
        """Refuses `none` together with an origin.

        Raises:
            click.UsageError: No origin may call, and one may.
        """
        if _NONE in self.cors_origin and set(self.cors_origin) != {_NONE}:
            raise click.UsageError(
                f"{sources.label('cors_origin')} names an origin beside '{_NONE}'"
            )
