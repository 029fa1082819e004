"""Draws the results as SVG: bars on a logarithmic scale, one group for each row."""

import math
from html import escape
from typing import Final

from .results import Results
from .row import Row
from .rows import ROWS
from .servers import KINDS

_COLOURS: Final = {
    "memory": "#2563eb",
    "files": "#1e40af",
    "asgi": "#93c5fd",
    "asgi-files": "#60a5fa",
    "node": "#9ca3af",
    "node-files": "#4b5563",
    "caddy": "#86efac",
    "caddy-files": "#16a34a",
    "rust": "#fca5a5",
    "rust-files": "#b91c1c",
    "rakaia": "#d97706",
}
_PLOTS: Final = {
    "rates": ("append", "append-256", "json-batch", "catch-up-json", "catch-up-binary", "sse", "tokens", "tokens-one", "crowd", "crowd-16", "tail"),
    "latencies": ("append-latency", "long-poll", "quiet-1", "quiet-300", "large", "durable", "durable-p99"),
    "growth": ("append-100k", "append-64", "append-subscribed", "last-of-million", "last-of-hundred", "fan-out-2000", "fan-out-100", "fan-out-10", "idle-sse"),
}  # fmt: skip
_WIDTH: Final = 760
_LEFT: Final = 150
_BAR: Final = 14
_STYLE: Final = "text{font:11px sans-serif;fill:#374151}.t{font-weight:bold}rect.b{fill:#fff}"


def draw(results: Results) -> dict[str, str]:
    """Returns the plots that have figures, by name."""
    drawn = {}
    for name, rows in _PLOTS.items():
        known = [row for row in ROWS if row.name in rows and _bars(results, row)]
        if known:
            drawn[name] = _plot(results, known)
    return drawn


def _bars(results: Results, row: Row) -> list[tuple[str, float]]:
    """Returns the servers that have a figure for a row, with their figures."""
    found = ((server, results.median(row.name, server)) for server in row.servers)
    return [(server, value) for server, value in found if value]


def _plot(results: Results, rows: list[Row]) -> str:
    """Returns one plot as SVG."""
    parts = []
    y = 8
    for row in rows:
        bars = _bars(results, row)
        least = min(value for _, value in bars) / 4
        span = math.log(max(value for _, value in bars) / least)
        y += 14
        parts.append(f'<text class="t" x="8" y="{y}">{escape(row.title)}, {row.unit}</text>')
        y += 6
        for server, value in bars:
            width = (_WIDTH - _LEFT - 90) * math.log(value / least) / span
            middle = y + _BAR - 4
            parts.append(
                f'<text x="{_LEFT - 8}" y="{middle}" text-anchor="end">{KINDS[server].title}</text>'
                f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR - 3}" fill="{_COLOURS[server]}"/>'
                f'<text x="{_LEFT + width + 6:.0f}" y="{middle}">{_number(value)}</text>'
            )
            y += _BAR
        y += 6
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 18}" width="{_WIDTH}">'
    )
    foot = f'<text x="8" y="{y + 10}">Logarithmic scales.</text></svg>\n'
    background = f'<style>{_STYLE}</style><rect class="b" width="100%" height="100%"/>'
    return "\n".join([head, background, *parts, foot])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
