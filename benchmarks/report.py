"""Formats results: a table for the terminal, and the generated part of `docs/performance.md`."""

from typing import Final

from . import plots
from .results import Comparison, Results, Verdict
from .row import Row
from .rows import ROWS
from .servers import HERE, KINDS, PEERS

DOCS: Final = HERE.parent / "docs"
_BEGIN: Final = "<!-- figures: written by make bench -->"
_END: Final = "<!-- end of figures -->"


def text(results: Results) -> str:
    """Returns all results as a plain-text table."""
    lines = []
    for row in ROWS:
        known = [server for server in row.servers if _is_known(results, row, server)]
        if known:
            lines.append(f"\n{row.title}")
        for server in known:
            cells = _cells(results, row, server)
            lines.append(f"  {cells[0]:<20} {cells[1]:>16} {cells[2]:>8}  {cells[3]}".rstrip())
    lines.append("\nSpeed of this server relative to each peer")
    lines += ["  " + "  ".join(_compared(each)) for each in results.beside()]
    lines.append("\nGoals")
    lines += ["  " + "  ".join(_judged(verdict)) for verdict in results.verdicts()]
    return "\n".join(lines)


def renew_docs(results: Results) -> None:
    """Updates the tables in `docs/performance.md`, and the plots in the same folder."""
    page = DOCS / "performance.md"
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n\n{markdown(results)}\n\n{_END}{after}")
    for name, drawing in plots.draw(results).items():
        (DOCS / f"performance-{name}.svg").write_text(drawing)


def markdown(results: Results) -> str:
    """Returns the tables of `docs/performance.md` as Markdown."""
    machine = results.machine
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, "
        f"Node {machine['node']}; load average at the end of the run: {machine['load']}.",
        "",
        "The first table shows the speed of this server relative to each peer in the same mode. 2× means that this server is twice as fast, or takes half the time "
        "or memory. Below 1×, it is slower:",
        "",
        f"| measurement | mode | {' | '.join(KINDS[peer].title.partition(',')[0] for peer in PEERS)} | compared with the fastest peer |",
        f"| --- | --- |{' ---: |' * len(PEERS)} --- |",
        *(f"| {' | '.join(_compared(each))} |" for each in results.beside()),
        "",
        "The second table has all figures. *this* is this server, and *ASGI* is its ASGI application under uvicorn. "
        "The ratio is the figure divided by Node's figure in the same mode. For latencies, CPU time and memory, a lower ratio is better:",
        "",
        "| measurement | server | median | ratio to Node | remarks |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for row in ROWS:
        title = row.title
        for server in row.servers:
            if _is_known(results, row, server):
                name, value, ratio, bad = _cells(results, row, server)
                lines.append(f"| {title} | {name} | {value} | {ratio} | {bad} |")
                title = ""
    lines += [
        "",
        "The third table compares the figures with the goals of this project. NO marks a goal that this server does not reach:",
        "",
        "| goal | result | required | desired |",
        "| --- | ---: | ---: | ---: |",
    ]
    for verdict in results.verdicts():
        goal, found, must, aim = _judged(verdict)
        lines.append(f"| {goal} | {found} | {must} | {aim} |")
    return "\n".join(lines)


def _is_known(results: Results, row: Row, server: str) -> bool:
    """Returns whether a row has a figure or a note for a server."""
    return results.median(row.name, server) is not None or results.note(row.name, server) != ""


def _cells(results: Results, row: Row, server: str) -> tuple[str, str, str, str]:
    """Returns the server's title, its figure, the ratio to Node, and remarks."""
    value = results.median(row.name, server)
    ratio = results.ratio(row.name, server)
    bad = results.bad(row.name, server)
    said = [f"{bad:,} failed or short"] if bad else []
    if note := results.note(row.name, server):
        said.append(note)
    return (
        KINDS[server].title,
        "—" if value is None else f"{number(value)} {row.unit}",
        "" if ratio is None else _times(ratio),
        ", ".join(said),
    )


def _compared(found: Comparison) -> list[str]:
    """Returns the cells of a comparison: this server's speed relative to each peer, and relative to the best peer."""
    speeds = [found.speeds.get(peer) for peer in PEERS]
    least = found.speeds[found.best]
    best = KINDS[found.best].title.partition(",")[0]
    stands = f"ahead of {best}" if least > 1 else f"**behind {best}**"
    return [
        _whole_title(found.row),
        "durable" if KINDS[found.server].is_durable else "memory",
        *("" if speed is None else _times(speed) for speed in speeds),
        stands,
    ]


def _whole_title(row: Row) -> str:
    """Returns the complete title of a row. A title that begins with `…` continues that of an earlier row."""
    if not row.title.startswith("…"):
        return row.title
    place = ROWS.index(row)
    base = next(each for each in reversed(ROWS[:place]) if not each.title.startswith("…"))
    return f"{base.title} {row.title}"


def _times(ratio: float) -> str:
    return f"{ratio:.2g}×" if ratio < 10 else f"{ratio:.0f}×"


def _judged(verdict: Verdict) -> tuple[str, str, str, str]:
    """Returns the goal, the figure, the required limit and the desired limit."""
    row, goal = verdict.row, verdict.goal
    unit = "×" if goal.to_server else f" {row.unit}"
    sign = "≤" if row.less_is_better else "≥"
    against = ""
    if goal.to_server:
        to_row = (
            "" if not goal.to_row else " " + next(r.title for r in ROWS if r.name == goal.to_row)
        )
        against = f" relative to {KINDS[goal.to_server].title}{to_row}"
    must = "" if goal.must is None else f"{_mark(verdict.must)} {sign} {goal.must:.3g}{unit}"
    aim = "" if goal.aim is None else f"{_mark(verdict.aim)} {sign} {goal.aim:.3g}{unit}"
    return (
        f"{row.title}: {KINDS[goal.server].title}{against}",
        f"{verdict.found:.3g}{unit}" if verdict.found < 100 else f"{verdict.found:.0f}{unit}",
        must,
        aim,
    )


def _mark(holds: bool) -> str:
    return "yes" if holds else "NO"


def number(value: float) -> str:
    """Returns a number with three significant digits, or without decimals from 100 upwards."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
