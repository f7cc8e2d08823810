"""Files of an evaluation: videos to look at, loss-less strips to measure, tables to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from modules import media
from modules.atomic import write_text

AddFrame = Callable[[list[np.ndarray], float], None]


@contextmanager
def clip_files(folder: Path, name: str, suffix: str, rate: Fraction) -> Iterator[AddFrame]:
    """Write one clip's results: ``<name><suffix>`` shows the columns, ``png/<name>.png`` the last column in a row.

    The yielded function takes a frame's columns (uint8 ``[H, W, 3]`` each, the prediction last) and its time.
    """
    columns, times = [], []

    def add(shown: list[np.ndarray], time: float) -> None:
        columns.append(shown)
        times.append(time)

    yield add
    height, width = columns[0][0].shape[:2]
    with media.VideoWriter(folder / f"{name}{suffix}", len(columns[0]) * width, height, rate) as writer:
        for shown, time in zip(columns, times, strict=True):
            writer.write(np.concatenate(shown, axis=1), time)
    media.write_image(folder / "png" / f"{name}.png", np.concatenate([shown[-1] for shown in columns], axis=1))


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
