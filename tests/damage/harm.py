"""One random damage to a file of a data directory."""

import random
from pathlib import Path

from tests.damage.rich import files

WAYS = ("flip", "flip", "zero", "noise", "truncate", "swap", "delete")
BLOCK = 512


def harm(path: Path, chance: random.Random) -> list[tuple[str, str, Path]]:
    """Damages one file, or sometimes two, and returns the way, the kind and the name of each."""
    done = []
    for _ in range(2 if chance.random() < 0.15 else 1):
        by_kind: dict[str, list[Path]] = {}
        for kind, file in files(path):
            by_kind.setdefault(kind, []).append(file)
        kind = chance.choice(sorted(by_kind))
        file = chance.choice(by_kind[kind])
        way = chance.choice(WAYS)
        if way == "swap" and len(by_kind[kind]) > 1 and chance.random() < 0.6:
            _exchange(file, chance.choice([each for each in by_kind[kind] if each != file]))
        else:
            _damage(file, way, chance)
        done.append((way, kind, file.relative_to(path)))
    return done


def _exchange(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _damage(file: Path, way: str, chance: random.Random) -> None:
    if way == "delete":
        file.unlink()
        return
    content = bytearray(file.read_bytes())
    used = len(content.rstrip(b"\0")) if chance.random() < 0.8 else len(content)
    if used:
        _change(content, used, way, chance)
    file.write_bytes(content)


def _change(content: bytearray, used: int, way: str, chance: random.Random) -> None:
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
    else:
        size = chance.choice((BLOCK, 4096))
        one, other = (chance.randrange(0, used, size) for _ in range(2))
        first, second = bytes(content[one : one + size]), bytes(content[other : other + size])
        if len(first) == len(second):
            content[one : one + size], content[other : other + size] = second, first
