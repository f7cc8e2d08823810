"""Shards out of a folder of portraits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from ...atomic import appearing
from ...errors import UserError
from ...storage.tars import write_tar
from ..portraits import Portrait
from .reading import BESIDE, PICTURES

NAME = "portraits-{:05d}.tar"


def write_shards(portraits: Sequence[Portrait], out: Path, each: int) -> list[Path]:
    """Write ``portraits-00000.tar`` and so on, with their indices; they appear all at once.

    Pictures are copied as they are.  The same files give the same bytes.

    Args:
        each: portraits in a shard.

    Raises:
        UserError: ``out`` is not empty, or a file cannot be read or is of a kind that shards do not have.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already; choose another --out")
    numbered = list(enumerate(portraits))
    names = []
    with appearing(out) as folder:
        for start in tqdm(range(0, len(numbered), each), "writing", unit="shard"):
            names.append(NAME.format(start // each))
            write_tar(Path(folder) / names[-1], _files(numbered[start : start + each]))
    return [out / name for name in names]


def _files(portraits: Sequence[tuple[int, Portrait]]) -> Iterator[tuple[str, bytes, int]]:
    for number, portrait in portraits:
        key = f"{number:08d}"
        yield _copied(key, portrait.image)
        for before, field in BESIDE.items():
            if (path := getattr(portrait, field)) is not None:
                yield _copied(f"{key}.{before}", path)
        values = {"text": portrait.text} | ({} if portrait.is_alone else {"identity": portrait.identity})
        yield f"{key}.json", json.dumps(values | {"source": portrait.image.name}).encode(), 0


def _copied(stem: str, path: Path) -> tuple[str, bytes, int]:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in PICTURES:
        raise UserError(f"{path}: shards hold {', '.join(PICTURES)}; convert it first")
    try:
        return f"{stem}.{kind}", path.read_bytes(), int(path.stat().st_mtime)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from error
