"""The triples of a folder of groups as training items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import UserError
from ...faces.landmarks68 import landmarks68
from ...faces.mesh import MIRROR
from ...world.puppets.states import States
from .shards import POINTS, open_shard, shards_in

WRECKED = 0.06  # half frames: a picture is left out where landmarks are found, in the mean, that far from the truth
INNER = slice(17, 68)  # landmarks of brows, nose, eyes and mouth
ATTEMPTS = 100


class TripleDataset(Dataset):
    """Cross-identity triples: A in one state, B in another, and A in B's.

    Pictures in which nobody would see the face that was meant (a puppet torn by a turn) are left out: those where the
    landmark network finds another.  All shards are drawn equally often, whatever groups they hold.  Half the items
    are seen in a mirror.

    An item depends on (seed, epoch, index) alone, and is a dict:

    - ``source``, ``driver``, ``target``  uint8 [3, H, H], of the same size for all
    - ``source_points``, ``driver_points``, ``target_points``  float32 [468, 3] in half frames from the middle
    - ``before``, ``after``  float32 [K]: what the source shows, and what driver and target show
      (:data:`.world.puppets.states.CODES`)
    - ``flow``  float32 [h, h, 2], from the target to the source, in half frames from the middle, and
      ``valid`` bool [h, h]
    - ``index``

    Raises:
        UserError: there is no group in one of the folders.
    """

    def __init__(self, folders: list[str], seed: int = 0, num_repeats: int = 1):
        self.seed = seed
        self.shards: list[Path] = []
        for folder in folders:
            found = shards_in(folder)
            if not found:
                raise UserError(f"{folder}: no triples there; render some with python -m modules.data.triples")
            self.shards += found
        self._open: dict[Path, tuple[Any, Tensor]] = {}
        self.length = num_repeats * sum(_triples_in(self._shard(path)[1].shape) for path in self.shards)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # loader processes open files of their own

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | int]:
        """The item ``(epoch, index)``; a plain index is of epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng([self.seed, epoch, index])
        for _ in range(ATTEMPTS):
            shard, sound = self._shard(self.shards[rng.integers(len(self.shards))])
            groups, people, states = sound.shape
            group, state = int(rng.integers(groups)), int(rng.integers(states))
            a, b = (int(n) for n in rng.choice(people, 2, replace=False))
            before = (state + 1) % states
            if sound[group, a, state] and sound[group, a, before] and sound[group, b, state]:
                break
        else:
            raise UserError(f"{self.shards[0].parent}: {ATTEMPTS} triples in a row are wrecked; render others")

        def at(name: str, *place: int) -> Tensor:
            return shard.get_slice(name)[(group, *place)]

        pictures = {"source": (a, before), "target": (a, state), "driver": (b, state)}
        codes = at("codes")
        size = shard.get_slice("image").get_shape()[-1]
        item = {
            **{name: at("image", *place) for name, place in pictures.items()},
            **{f"{name}_points": at(POINTS, *place).float() for name, place in pictures.items()},
            "before": codes[before],
            "after": codes[state],
            # from pixel centres, as the worlds count, to the frame's edges
            "flow": at("flow", a, state).float() * ((size - 1) / size),
            "valid": at("valid", a, state),
        }
        return (_mirrored(item) if rng.random() < 0.5 else item) | {"index": index}

    def _shard(self, path: Path) -> tuple[Any, Tensor]:
        """A shard's file, and bool [G, P, S] which of its pictures show the face that was meant."""
        if path not in self._open:
            file = open_shard(path)
            truth, points = file.get_tensor("landmarks"), file.get_tensor(POINTS).float()
            size = file.get_slice("image").get_shape()[-1]
            apart = landmarks68(points)[..., INNER, :2] * (size / (size - 1)) - truth[..., INNER, :]
            self._open[path] = file, apart.norm(dim=-1).mean(dim=-1) < WRECKED
        return self._open[path]


def _triples_in(shape: tuple[int, ...]) -> int:
    """How many triples, whose flow is known, groups of pictures ``[G, P, S]`` make."""
    groups, people, states = shape
    return groups * people * (people - 1) * states


def _mirrored(item: dict[str, Tensor]) -> dict[str, Tensor]:
    """An item as a mirror shows it."""
    changed = {"valid": item["valid"].flip(-1), "flow": item["flow"].flip(1) * torch.tensor([-1.0, 1.0])}
    for name in ("source", "driver", "target"):
        changed[name] = item[name].flip(-1)
        changed[f"{name}_points"] = item[f"{name}_points"][list(MIRROR)] * torch.tensor([-1.0, 1.0, 1.0])
    for name in ("before", "after"):
        changed[name] = States.of_codes(item[name][None]).mirrored().codes[0]
    return changed
