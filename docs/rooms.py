"""Draws docs/rooms.md: the rooms of the package, the imports between them, and what each file is for.

Run it with `make rooms` after a file is added, moved or given another first sentence. `tests/docs/test_rooms.py` fails while the
page is not current.
"""

import ast
from collections.abc import Mapping
from pathlib import Path

import grimp

PACKAGE = "durable_streams_server"
ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / PACKAGE
PAGE = ROOT / "docs" / "rooms.md"
#: The package itself imports every room, when a user asks for a public name.
PUBLIC = "durable_streams_server"

Arrows = Mapping[str, set[str]]


def imports() -> Arrows:
    """Returns the modules that each module of the package imports, including imports for type checkers only."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def room_of(module: str) -> str:
    """Returns the room of a module: a folder at the top of the package, or a file there."""
    names = module.split(".")
    return names[1] if len(names) > 1 else PUBLIC


def between_rooms(modules: Arrows) -> Arrows:
    """Returns the rooms that each room imports from."""
    rooms: dict[str, set[str]] = {}
    for module, imported in modules.items():
        room = room_of(module)
        rooms.setdefault(room, set()).update(room_of(other) for other in imported)
        rooms[room].discard(room)
    return rooms


def reachable(rooms: Arrows, start: str) -> set[str]:
    """Returns every room that a room imports from, directly or through other rooms."""
    found: set[str] = set()
    waiting = list(rooms[start])
    while waiting:
        room = waiting.pop()
        if room not in found:
            found.add(room)
            waiting.extend(rooms[room])
    return found


def without_detours(rooms: Arrows) -> Arrows:
    """Returns the imports without those that a longer path of imports implies (the transitive reduction)."""
    return {
        room: {
            other
            for other in imported
            if not any(other in reachable(rooms, third) for third in imported - {other})
        }
        for room, imported in rooms.items()
    }


def first_sentence(file: Path) -> str:
    """Returns the first sentence of a module's docstring, as one line."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + stop.strip()


def label(room: str) -> str:
    """Returns the name of a room as the table of ARCHITECTURE.md spells it."""
    if room == PUBLIC:
        return room
    return f"{room}/" if (SOURCE / room).is_dir() else f"{room}.py"


def picture(rooms: Arrows) -> str:
    """Returns the Mermaid source of the picture."""
    drawn = without_detours(rooms)
    boxes = [f'    {room}["{label(room)}"]' for room in sorted(rooms)]
    arrows = [f"    {room} --> {other}" for room in sorted(rooms) for other in sorted(drawn[room])]
    return "\n".join(["```mermaid", "flowchart TD", *boxes, *arrows, "```"])


def files_of(room: str) -> list[Path]:
    """Returns the files of a room that have a docstring, with the files in its folders last."""
    folder = SOURCE / room
    files = list(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    return sorted(
        filter(first_sentence, files),
        key=lambda file: (len(file.parts), file.parent, file.name),
    )


def tables(rooms: Arrows) -> str:
    """Returns a table of files for each room. The rooms are in the order of the picture, from the top."""
    parts = []
    for room in sorted(rooms, key=lambda room: (-len(reachable(rooms, room)), room)):
        if room in (PUBLIC, "__main__"):
            continue
        rows = [
            f"| [`{file.relative_to(SOURCE)}`](../{file.relative_to(ROOT)}) | {first_sentence(file)} |"
            for file in files_of(room)
        ]
        parts.append("\n".join([f"## `{label(room)}`", "", "| file | |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def page() -> str:
    """Returns the whole page."""
    rooms = between_rooms(imports())
    return f"""# Rooms

The script `docs/rooms.py` makes this page from the imports and docstrings of the package: run `make rooms` to renew it. An arrow
means "imports from". An arrow that others imply is left out. [ARCHITECTURE.md](../ARCHITECTURE.md) says what may live in each room.

{picture(rooms)}

{tables(rooms)}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
