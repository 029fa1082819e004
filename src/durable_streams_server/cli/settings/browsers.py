"""Settings for browsers and shared caches."""

import dataclasses
from typing import Final

import click

from ...http.browser import check_origin
from ...http.options import LONGEST_CACHE_AGE
from ..values import Checked
from .definition import Topic, setting
from .sources import Sources

#: The value of `--cors-origin` that allows no origin.
NO_ORIGIN: Final = "none"


def _check_origin(text: str) -> None:
    if text != NO_ORIGIN:
        check_origin(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Browsers(Topic):
    """Browsers and shared caches."""

    cors_origin: tuple[str, ...] = setting(
        (),
        "Origin whose pages may use the server in a browser; may be repeated. 'local' is every page of this machine, '*' is any page, "
        "'none' is none. A server on loopback without --auth also refuses requests of other pages that could change something.",
        kind=Checked("origin", _check_origin),
        metavar="ORIGIN",
        unset="'local' on loopback without --auth, otherwise '*'",
    )
    shared_cache_age: int = setting(
        0,
        "How long shared caches, such as a CDN, may keep a page that can still grow; "
        "with 0 every cache asks each time whether its page is current.",
        kind=click.IntRange(0, LONGEST_CACHE_AGE),
        metavar="SECONDS",
    )

    def check(self, sources: Sources) -> None:
        """Refuses `none` together with an origin.

        Raises:
            click.UsageError: No origin may call, and one may.
        """
        if NO_ORIGIN in self.cors_origin and set(self.cors_origin) != {NO_ORIGIN}:
            raise click.UsageError(
                f"{sources.label('cors_origin')} names an origin beside '{NO_ORIGIN}'"
            )
