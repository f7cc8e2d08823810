"""Files of an evaluation: videos to look at, loss-less strips to measure, tables to read."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .. import media
from ..atomic import write_text

AddFrame = Callable[[list[np.ndarray], float], None]
ENDINGS = (".pth.tar", ".pth", ".pt", ".safetensors")  # of checkpoints
STRIP_PIXELS = 2**25  # of one strip, 100 MB; Pillow warns of three times as many and refuses six times


@contextmanager
def clip_files(folder: Path, name: str, suffix: str, rate: Fraction) -> Iterator[AddFrame]:
    """Write one clip's results: ``<name><suffix>`` shows the columns, ``png/<name>.png`` the last column in a row.

    The yielded function takes a frame's columns (uint8 ``[H, W, 3]`` each, the prediction last) and its time.  The
    video is written as frames come; a row too long for one picture goes on in ``png/<name>.part2.png`` and so on.
    After an exception nothing of the clip is left.
    """
    row: list[np.ndarray] = []
    strips: list[Path] = []
    writer: media.VideoWriter | None = None

    def add(shown: list[np.ndarray], time: float) -> None:
        nonlocal writer
        height, width = shown[0].shape[:2]
        if writer is None:
            path = folder / f"{name}{suffix}"
            writer = stack.enter_context(media.VideoWriter(path, len(shown) * width, height, rate))
        if (len(row) + 1) * height * width > STRIP_PIXELS:
            write_strip()
        writer.write(np.concatenate(shown, axis=1), time)
        row.append(shown[-1])

    def write_strip() -> None:
        part = f".part{len(strips) + 1}" if strips else ""
        strips.append(folder / "png" / f"{name}{part}.png")
        media.write_image(strips[-1], np.concatenate(row, axis=1))
        row.clear()

    try:
        with ExitStack() as stack:
            yield add
            write_strip()
    except BaseException:
        for strip in strips:
            strip.unlink(missing_ok=True)
        raise


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, those that come again (in whatever case: some file systems see none) with ``-2``, ``-3`` and so on."""
    names = list(names)
    taken = {name.lower() for name in names}
    seen: set[str] = set()
    result = []
    for name in names:
        unique = name
        if name.lower() in seen:
            numbered = (f"{name}-{number}" for number in itertools.count(2))
            unique = next(n for n in numbered if n.lower() not in taken)
        seen.add(name.lower())
        taken.add(unique.lower())
        result.append(unique)
    return result


def evaluation_folder(checkpoint: str | Path, kind: str = "evaluation") -> Path:
    """``<kind>/<name of the checkpoint>`` beside it: several checkpoints in a folder are there to be compared."""
    path = Path(os.path.abspath(checkpoint))  # a link's own place and name
    ending = next((e for e in ENDINGS if path.name.endswith(e) and not path.is_dir()), "")
    return path.parent / kind / path.name.removesuffix(ending)


def write_json(path: Path, values: Any) -> None:
    """Write ``values`` as readable JSON, atomically."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False))


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """Columns aligned for a terminal: the first to the left, numbers to the right."""
    rows = [header, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)
