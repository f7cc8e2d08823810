"""Triples as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import media
from ...atomic import replacing, write_text
from ...errors import UserError
from ...media.tensors import to_images
from .photographs import Prepared
from .render import Rendering
from .states import CODES
from .triples import Triples, draw_triples, plan_triples

_AT_ONCE = 8
_FIXED = ("seed", "size", "codes")  # what triples of one folder have in common


def person_of(name: str) -> str:
    """Who a photograph shows: its name up to ``#``, as in data sets of clips, or up to the suffix."""
    return Path(name).stem.partition("#")[0]


def write_triples(folder: Path, prepared: Prepared, count: int, size: int, seed: int) -> None:
    """Draw ``count`` triples of ``size`` pixels from ``seed`` and write them.

    Those that are there already are kept: a run that was cut off goes on where it was, and may be made longer.

    Raises:
        UserError: those that are there are of another seed or size, or of other photographs.
    """
    people = [person_of(name) for name in prepared.names]
    plan = plan_triples(prepared.puppets, people, count, seed)
    table = {
        "seed": seed,
        "size": size,
        "codes": CODES,
        "people": [[people[i] for i in pair] for pair in plan.people.tolist()],
    }
    _check_same(folder / "triples.json", table)
    write_text(folder / "triples.json", json.dumps(table) + "\n")
    for start in tqdm(range(0, count, _AT_ONCE), desc="triples", unit="batch"):
        numbers = range(start, min(start + _AT_ONCE, count))
        if all((folder / f"{number:06d}.npz").exists() for number in numbers):
            continue
        drawn = draw_triples(prepared.puppets, plan.take(slice(numbers.start, numbers.stop)), size)
        for row, number in enumerate(numbers):
            _write(folder / f"{number:06d}", drawn, row)


def _check_same(path: Path, table: dict[str, Any]) -> None:
    """UserError where triples that are there would be mixed with others."""
    if not path.exists():
        return
    table = json.loads(json.dumps(table))
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        both = min(len(before["people"]), len(table["people"]))
        same = all((before[key], before["people"][:both]) == (table[key], table["people"][:both]) for key in _FIXED)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UserError(
            f"{path.parent}: has triples of another --seed or --size, or of other photographs; remove it, or choose "
            "another --out"
        )


def _write(path: Path, drawn: Triples, row: int) -> None:
    truth = {}
    for name, rendering in drawn._asdict().items():
        media.write_image(path.with_name(f"{path.name}_{name}.png"), to_images(rendering.image[row : row + 1])[0])
        truth |= {f"{name}_{key}": value for key, value in _truth(rendering, row).items()}
    with replacing(path.with_suffix(".npz")) as temporary:
        np.savez_compressed(temporary, **truth)


def _truth(rendering: Rendering, row: int) -> dict[str, np.ndarray]:
    """Flow as float16 [H, W, 2] (a sixteenth of a pixel at 256), valid as bool, mask as uint8; the rest as float32."""
    return {
        "flow": rendering.flow[row].half().cpu().numpy(),
        "valid": rendering.valid[row, 0].bool().cpu().numpy(),
        "mask": (rendering.mask[row, 0] * 255).round().byte().cpu().numpy(),
        "landmarks": rendering.landmarks[row].cpu().numpy(),
        "codes": rendering.codes[row].cpu().numpy(),
    }
