"""Tests of the shape of the code: sizes, import cycles, unused names, and what every file must have.

Each test reads the syntax of the files, so it also applies to every file that is added later.
"""

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import durable_streams_server
from docs.rooms import imports

ROOT = Path(__file__).parents[1]
SOURCE = Path(durable_streams_server.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
#: The folders of our own Python code. Files in the folders of INSTALLED below them are left out, because we did not write them.
OURS = ("src", "tests", "benchmarks", "docs", "examples")
INSTALLED = {".venv", "node_modules", ".rust", ".caddy", "scratch"}
CODE = sorted(
    file
    for folder in OURS
    for file in (ROOT / folder).rglob("*.py")
    if INSTALLED.isdisjoint(file.relative_to(ROOT).parts)
)
TEXTS = sorted(
    [
        *CODE,
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "Makefile",
        ROOT / "pyproject.toml",
    ]
)
#: A longer file holds more than one idea, and a longer function does not fit on a screen.
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60
#: The rooms whose folders of tests must mirror their folders of source files.
MIRRORED = ("access", "cli", "http", "protocol", "storage", "streams", "subscriptions", "testing")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@functools.cache
def text_of(file: Path) -> str:
    return file.read_text("utf-8")


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(text_of(file))


def functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def inner_functions(tree: ast.AST) -> Iterator[Function]:
    for outer in functions(tree):
        for inner in functions(outer):
            if inner is not outer:
                yield inner


def annotations(function: Function) -> Iterator[ast.expr]:
    given = function.args
    for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
        if argument is not None and argument.annotation is not None:
            yield argument.annotation
    if function.returns is not None:
        yield function.returns


def costs_time(annotation: ast.expr) -> bool:
    return any(isinstance(part, ast.Subscript | ast.BinOp) for part in ast.walk(annotation))


def words_behind_switches(line: str) -> str | None:
    """Returns the text after `type: ignore` or `noqa` in a line, or None if the line switches off no check."""
    switch = re.search(r"#\s*(?:type: ignore\[[^]]*\]|noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*)(.*)", line)
    return None if switch is None else switch[1]


def does_something(function: Function) -> bool:
    """Returns whether the body of a function has more than a docstring or `...`."""
    return not all(
        isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
        for part in function.body
    )


def has_code(file: Path) -> bool:
    """Returns whether a file has code to test, besides constants, types and interfaces."""
    tree = tree_of(file)
    return file.name[0] != "_" and any(map(does_something, functions(tree)))


def test_inner_functions_have_lazy_annotations() -> None:
    """Python evaluates the annotations of an inner function whenever the outer function runs.

    `Ticket[Page]` takes 0.5 us, and such annotations took a tenth of a read.
    """
    costly = []
    for file in FILES:
        tree = tree_of(file)
        is_lazy = any(
            isinstance(part, ast.ImportFrom) and part.module == "__future__" for part in tree.body
        )
        if not is_lazy:
            costly += [
                f"{name_of(file)}: {function.name}"
                for function in inner_functions(tree)
                if any(map(costs_time, annotations(function)))
            ]
    assert costly == []


def test_no_file_is_longer_than_limit() -> None:
    lengths = {name_of(file): text_of(file).count("\n") for file in CODE}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_is_longer_than_limit() -> None:
    lengths = {
        f"{name_of(file)}: {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for file in CODE
        for function in functions(tree_of(file))
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_files_have_no_import_cycles() -> None:
    """`prepare` raises an error that names the files of a cycle. Imports for type checkers count too."""
    TopologicalSorter(imports()).prepare()


def test_files_have_no_conflict_markers() -> None:
    marker = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)
    assert [name_of(file) for file in TEXTS if marker.search(text_of(file))] == []


def test_every_constant_is_used() -> None:
    """A constant is unused if its name occurs only once in the source, where it is defined."""
    words = Counter(word for file in FILES for word in re.findall(r"\w+", text_of(file)))
    constants = [
        target.id
        for file in FILES
        for node in tree_of(file).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id.isupper()
    ]
    assert [name for name in constants if words[name] < 2] == []


def test_every_source_file_has_its_tests() -> None:
    """`http/guard.py` is tested by `http/test_guard.py`, or by several files `http/test_guard_*.py`."""
    without = []
    for file in filter(has_code, FILES):
        folder = ROOT / "tests" / file.relative_to(SOURCE).parent
        if not [*folder.glob(f"test_{file.stem}.py"), *folder.glob(f"test_{file.stem}_*.py")]:
            without.append(name_of(file))
    assert without == []


def test_folders_of_tests_mirror_the_folders_of_the_source() -> None:
    folders = {
        file.parent.relative_to(ROOT / "tests")
        for room in MIRRORED
        for file in (ROOT / "tests" / room).rglob("test_*.py")
    }
    assert [folder for folder in folders if not (SOURCE / folder).is_dir()] == []


def test_every_switched_off_check_has_reason() -> None:
    """A line that switches off a type or style check gives the reason after `type: ignore` or `noqa`."""
    bare = [
        f"{name_of(file)}: {line.strip()}"
        for file in CODE
        for line in text_of(file).splitlines()
        if (words := words_behind_switches(line)) is not None and not re.search(r"\w", words)
    ]
    assert bare == []
