"""Directions of z_exp and z_pose that sliders go along: a small table beside a model's weights.

Nothing heavy is imported before it is needed: mistakes are told at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import command_line
from ..atomic import write_text
from ..digest import digest
from ..errors import UserError
from ..world.control.options import check_sliders

if TYPE_CHECKING:
    from torch import Tensor

    from .encoders import Semantics

FORMAT = 1  # counts changes of the table's layout
SUFFIX = ".sliders.json"  # of a table, in place of its checkpoint's suffix
DIGITS = 5  # of its numbers, behind the point


@dataclass(frozen=True)
class Directions:
    """What sliders change.

    Attributes:
        weights: SHA-256 of the checkpoint that they belong to.
        numbers: how many z_exp and z_pose have.
        sliders: by name, what an amount of 1 adds to ``z_sem = [z_exp | z_pose]``.
        told: by name, how well the slider's amount is told on people who were not fitted: a correlation.
    """

    weights: str
    numbers: tuple[int, int]
    sliders: Mapping[str, list[float]]
    told: Mapping[str, float]

    def added(self, edits: Mapping[str, float]) -> list[float]:
        """K numbers, what edits add.  Raises UserError for a slider that the table lacks."""
        check_sliders(edits, self.sliders)
        total = [0.0] * sum(self.numbers)
        for name, amount in edits.items():
            total = [so_far + amount * number for so_far, number in zip(total, self.sliders[name], strict=True)]
        return total

    def change(self, edits: Mapping[str, float]) -> Tensor:
        """The same as a tensor ``[K]``."""
        import torch

        return torch.tensor(self.added(edits))

    def fits(self, semantics: Semantics) -> bool:
        """Whether semantics have as many numbers."""
        return self.numbers == tuple(z.shape[-1] for z in semantics)


def place_of(checkpoint: str | os.PathLike) -> Path:
    """Where the table of a checkpoint is: beside it."""
    path = Path(checkpoint)
    return path.with_name(path.name.removesuffix(".tar").rpartition(".")[0] + SUFFIX)


def write_directions(directions: Directions, path: str | os.PathLike) -> None:
    """Write a table, whole or not at all; a line for each slider."""
    table = asdict(directions)
    sliders = {n: [round(v, DIGITS) for v in numbers] for n, numbers in table.pop("sliders").items()}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in sliders.items())
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in {"format": FORMAT, **table}.items())
    write_text(path, f'{{\n{head},\n "sliders": {{\n{lines}\n }}\n}}\n')


def load_directions(checkpoint: str | os.PathLike) -> Directions:
    """The table beside a checkpoint.  Raises UserError: there is none, it is broken, or it is another model's."""
    path = place_of(checkpoint)
    remedy = f"make it: {command_line('sid.sliders')} --checkpoint {checkpoint}"
    if not path.is_file():
        raise UserError(f"--edit: {checkpoint} has no table of sliders beside it ({path.name}); {remedy}")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table.pop("format") != FORMAT:
            raise UserError(f"{path}: has another format than this version reads; {remedy}")
        directions = Directions(**{**table, "numbers": tuple(table["numbers"])})
        directions.added(dict.fromkeys(directions.sliders, 1.0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: is no table of sliders ({' '.join(str(error).split())[:80]}); {remedy}") from error
    if directions.weights != digest(checkpoint):
        raise UserError(f"{path}: belongs to other weights than {checkpoint}; {remedy}")
    return directions


def table_of(checkpoint: str | os.PathLike | None) -> Directions:
    """The sliders of a checkpoint.  Raises UserError where there are none."""
    if checkpoint is None:
        raise UserError("--edit: this slider is in a table beside checkpoints, and --onnx has none; leave --onnx out")
    return load_directions(checkpoint)


def check_edits(edits: Mapping[str, float], checkpoint: str | os.PathLike | None, own: Iterable[str] = ()) -> None:
    """UserError where a slider is none of a model's ``own``, nor of the table beside its checkpoint."""
    own = list(own)
    if not edits.keys() <= set(own):
        check_sliders(edits, [*own, *table_of(checkpoint).sliders])
