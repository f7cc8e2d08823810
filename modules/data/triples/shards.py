"""Groups on disk: rendered once, in shards that a run picks up again and that training reads row by row."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ...atomic import replacing, writing_errors
from ...errors import UserError
from ...faces.alignment import upright_square
from ...faces.mesh import FROM_LANDMARKS, FaceMesh
from ...world.puppets.photographs import Prepared
from .groups import PEOPLE, STATES, Group, people_group, photograph_group

SHARD = 8  # groups in a file
AT_MOST = 256  # pictures of a group, which are drawn together
FORMAT = "deepexpr triples 1"
POINTS = "points"  # [P, S, 468, 3] of the landmark network, in half frames from the middle


@dataclass(frozen=True)
class Plan:
    """What the groups of a folder show."""

    size: int = 128  # pixels of a side
    seed: int = 0
    people_share: float = 0.5  # of the groups that show the face world's people; the others show photographs
    people: int = PEOPLE  # in a group
    states: int = STATES  # of each of them

    def is_people(self, number: int) -> bool:
        """Whether group ``number`` shows the face world's people."""
        return bool(np.random.default_rng([self.seed, number, 23]).random() < self.people_share)


def write_shards(folder: str | Path, plan: Plan, prepared: Prepared | None, groups: int, progress: bool = True) -> None:
    """Render what is missing of the first ``groups`` groups (rounded up to whole shards).

    Raises:
        UserError: a group is too large, photographs are wanted and do not show as many people, or shards made of
            something else are there.
    """
    if plan.people * plan.states > AT_MOST:
        raise UserError(f"{plan.people} people in {plan.states} states are more than {AT_MOST} pictures; choose fewer")
    folder = Path(folder)
    if plan.people_share < 1 and prepared is None:
        raise UserError("photographs are wanted (people_share below 1), and there are none; give prepared ones")
    names = [] if prepared is None else [name.split("#")[0] for name in prepared.names]
    if plan.people_share < 1 and len(set(names)) < plan.people:
        raise UserError(f"{len(set(names))} people to draw groups of {plan.people} from; give photographs of more")
    told = _made_from(plan, prepared)
    count = -(-groups // SHARD)
    for path in shards_in(folder)[:count]:
        if open_shard(path).metadata() != told:
            raise UserError(f"{path}: was made of something else; choose another folder, or remove this one")
    missing = [number for number in range(count) if not _path(folder, number).exists()]
    landmarks = FaceMesh()
    with tqdm(total=len(missing) * SHARD, desc=f"rendering {folder}", unit="group", disable=not progress) as bar:
        for number in missing:
            rows = []
            for group in range(number * SHARD, (number + 1) * SHARD):
                seed = int(np.random.SeedSequence([plan.seed, group]).generate_state(1)[0])
                shape = plan.size, seed, plan.people, plan.states
                made = (
                    people_group(*shape)
                    if plan.is_people(group) or prepared is None
                    else photograph_group(prepared.puppets, names, *shape)
                )
                rows.append(made._asdict() | {POINTS: _points(landmarks, made).half()})
                bar.update()
            tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
            path = _path(folder, number)
            with replacing(path) as temporary, writing_errors(path):
                save_file(tensors, temporary, told)


def shards_in(folder: str | Path) -> list[Path]:
    """The shards that are there."""
    return sorted(Path(folder).glob("[0-9]*.safetensors"))


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.safetensors"


def open_shard(path: Path) -> Any:
    """A shard, to be read in parts.  Raises UserError."""
    try:
        file = safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it, and it is rendered again") from error
    if (file.metadata() or {}).get("format") != FORMAT:
        raise UserError(f"{path}: holds no triples; give a folder of python -m modules.data.triples")
    return file


def _made_from(plan: Plan, prepared: Prepared | None) -> dict[str, str]:
    # a folder rendered before these could be chosen says nothing of them, and goes on all the same
    usual = {"people": PEOPLE, "states": STATES}
    shown = {name: value for name, value in vars(plan).items() if usual.get(name) != value}
    told = {"format": FORMAT, "plan": json.dumps(shown)}
    if prepared is None:
        return told
    digest = hashlib.sha256(json.dumps(prepared.names).encode())
    digest.update(prepared.puppets.photo.numpy().tobytes())
    return told | {"photographs": digest.hexdigest()[:16]}


@torch.no_grad()
def _points(network: FaceMesh, group: Group) -> Tensor:
    """[P, S, 468, 3]: what the landmark network sees, from where the faces are known to be."""
    images = group.image.flatten(0, 1).float() / 255
    size = images.shape[-1]
    rough = (group.landmarks.flatten(0, 1) + 1) * ((size - 1) / 2) + 0.5
    first = network(images, upright_square(rough, 36, 45, FROM_LANDMARKS)).points
    points = network.refine(images, first).points * (2 / size)
    points[..., :2] -= 1
    return points.unflatten(0, group.image.shape[:2])
