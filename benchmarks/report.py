"""Results as text: a table for the terminal, and the generated part of `docs/performance.md`."""

from typing import Final

from . import plots
from .results import Results, Verdict
from .row import Row
from .rows import ROWS
from .servers import HERE, KINDS

DOCS: Final = HERE.parent / "docs"
_BEGIN: Final = "<!-- figures: written by make bench -->"
_END: Final = "<!-- end of figures -->"


def text(results: Results) -> str:
    """Returns everything that is known as a table of plain text."""
    lines = []
    for row in ROWS:
        known = [server for server in row.servers if _is_known(results, row, server)]
        if known:
            lines.append(f"\n{row.title}")
        for server in known:
            cells = _cells(results, row, server)
            lines.append(f"  {cells[0]:<20} {cells[1]:>16} {cells[2]:>8}  {cells[3]}".rstrip())
    lines.append("\nGoals")
    lines += ["  " + "  ".join(_judged(verdict)) for verdict in results.verdicts()]
    return "\n".join(lines)


def renew_docs(results: Results) -> None:
    """Writes the tables of `docs/performance.md` and the plots beside it."""
    page = DOCS / "performance.md"
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n\n{_markdown(results)}\n\n{_END}{after}")
    for name, drawing in plots.draw(results).items():
        (DOCS / f"performance-{name}.svg").write_text(drawing)


def _markdown(results: Results) -> str:
    machine = results.machine
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, "
        f"Node {machine['node']}; load average at the end {machine['load']}.",
        "",
        "| what | server | median | to Node | remarks |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for row in ROWS:
        title = row.title
        for server in row.servers:
            if _is_known(results, row, server):
                name, value, ratio, bad = _cells(results, row, server)
                lines.append(f"| {title} | {name} | {value} | {ratio} | {bad} |")
                title = ""
    lines += ["", "| goal | found | must | aim |", "| --- | ---: | ---: | ---: |"]
    for verdict in results.verdicts():
        goal, found, must, aim = _judged(verdict)
        lines.append(f"| {goal} | {found} | {must} | {aim} |")
    return "\n".join(lines)


def _is_known(results: Results, row: Row, server: str) -> bool:
    return results.median(row.name, server) is not None or results.note(row.name, server) != ""


def _cells(results: Results, row: Row, server: str) -> tuple[str, str, str, str]:
    value = results.median(row.name, server)
    ratio = results.ratio(row.name, server)
    bad = results.bad(row.name, server)
    said = [f"{bad:,} failed or short"] if bad else []
    if note := results.note(row.name, server):
        said.append(note)
    return (
        KINDS[server].title,
        "—" if value is None else f"{number(value)} {row.unit}",
        "" if ratio is None else f"{ratio:.2g}×" if ratio < 10 else f"{ratio:.0f}×",
        ", ".join(said),
    )


def _judged(verdict: Verdict) -> tuple[str, str, str, str]:
    row, goal = verdict.row, verdict.goal
    unit = "×" if goal.to_server else f" {row.unit}"
    sign = "≤" if row.less_is_better else "≥"
    against = ""
    if goal.to_server:
        to_row = (
            "" if not goal.to_row else " " + next(r.title for r in ROWS if r.name == goal.to_row)
        )
        against = f" to {KINDS[goal.to_server].title}{to_row}"
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
    """Returns a figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
