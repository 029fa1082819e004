"""Damages a random file or directory of a data directory."""

import random
import shutil
from pathlib import Path

from tests.damage.rich import files

WAYS = ("flip", "flip", "zero", "noise", "truncate", "swap", "delete", "copy", "grow", "replace")
BLOCK = 512
DIRECTORIES = 0.04  # share of the damages that hit a whole directory


def harm(path: Path, chance: random.Random) -> list[tuple[str, str, Path]]:
    """Damages one random file or directory, or sometimes two.

    Returns:
        For each damage: the way, and the kind and the name of the damaged file or directory.
    """
    done = []
    for _ in range(2 if chance.random() < 0.15 else 1):
        if chance.random() < DIRECTORIES:
            done.append(_harm_directory(path, chance))
            continue
        by_kind: dict[str, list[Path]] = {}
        for kind, file in files(path):
            by_kind.setdefault(kind, []).append(file)
        kind = chance.choice(sorted(by_kind))
        file = chance.choice(by_kind[kind])
        way = chance.choice(WAYS)
        others = [each for each in by_kind[kind] if each != file]
        if way == "copy" and others:
            file.write_bytes(chance.choice(others).read_bytes())
        elif way == "swap" and others and chance.random() < 0.6:
            _exchange(file, chance.choice(others))
        elif way == "replace":
            way = _replace(file, chance)
        else:
            _damage(file, way, chance)
        done.append((way, kind, file.relative_to(path)))
    return done


def _harm_directory(path: Path, chance: random.Random) -> tuple[str, str, Path]:
    """Deletes a directory with everything in it, and sometimes puts a file in its place."""
    directory = chance.choice(sorted(each for each in path.rglob("*") if each.is_dir()))
    name = directory.relative_to(path)
    shutil.rmtree(directory)
    if chance.random() < 0.5:
        return "delete", name.parts[0], name
    directory.write_bytes(chance.randbytes(chance.choice((0, 100))))
    return "file", name.parts[0], name


def _replace(file: Path, chance: random.Random) -> str:
    """Replaces a file by a directory or a link, and returns the kind of the replacement."""
    file.unlink()
    way = chance.choice(("directory", "full directory", "dangling link", "link"))
    if way == "dangling link":
        file.symlink_to(file.with_name("nothing"))
    elif way == "link":
        others = sorted(each for each in file.parent.iterdir() if each.is_file())
        file.symlink_to(chance.choice(others) if others else file.parent)
    else:
        file.mkdir()
        if way == "full directory":
            (file / "something").write_bytes(b"of somebody else")
    return way


def _exchange(one: Path, other: Path) -> None:
    """Exchanges the contents of two files."""
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _damage(file: Path, way: str, chance: random.Random) -> None:
    """Deletes a file, or changes its contents in some way."""
    if way == "delete":
        file.unlink()
        return
    content = bytearray(file.read_bytes())
    used = len(content.rstrip(b"\0")) if chance.random() < 0.8 else len(content)
    if used:
        _change(content, used, way, chance)
    file.write_bytes(content)


def _change(content: bytearray, used: int, way: str, chance: random.Random) -> None:
    """Changes the contents of a file in some way.

    Args:
        content: the contents.
        used: the damage begins within this number of bytes from the start.
        way: one of `WAYS`.
        chance: a source of random numbers.
    """
    at = chance.randrange(used)
    if way == "flip":
        for _ in range(chance.choice((1, 1, 3))):
            content[chance.randrange(used)] ^= 1 << chance.randrange(8)
    elif way in ("zero", "noise"):
        size = min(chance.choice((1, 16, 512, 4096, 8192)), len(content) - at)
        at -= at % size if chance.random() < 0.5 else 0
        content[at : at + size] = bytes(size) if way == "zero" else chance.randbytes(size)
    elif way == "truncate":
        del content[at:]
    elif way == "grow":
        content += chance.randbytes(chance.choice((1, 100, 4096)))
    else:
        size = chance.choice((BLOCK, 4096))
        one, other = (chance.randrange(0, used, size) for _ in range(2))
        first, second = bytes(content[one : one + size]), bytes(content[other : other + size])
        if len(first) == len(second):
            content[one : one + size], content[other : other + size] = second, first
