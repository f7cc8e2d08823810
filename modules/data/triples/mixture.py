"""Triples of made pictures, and between them pairs of frames of real people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import UserError
from ..frames import FrameDataset
from .dataset import TripleDataset


class Mixture(Dataset):
    """Items of :class:`TripleDataset`, a share of them replaced by two frames of one real person.

    An item depends on (seed, epoch, index) alone, and has two keys more:

    - ``made``  bool: whether its truth is known.  Of a pair it is not: its driver is the target itself, and points,
      numbers and flow are 0 and nowhere ``valid``.
    - ``unreadable``  why another clip had to stand in, if one had.

    Args:
        triples: made pictures.
        pairs: real clips and photographs, framed alike, in frames of the same size.
        share: of the items that are pairs, in the mean.
        seed: of the draw.

    Raises:
        UserError: frames of the two have different sizes.
    """

    def __init__(self, triples: TripleDataset, pairs: FrameDataset | None = None, share: float = 0.0, seed: int = 0):
        self.triples, self.pairs, self.share, self.seed = triples, pairs, share, seed
        first = triples[0]
        self._unknown = {name: torch.zeros_like(values) for name, values in first.items() if name != "index"}
        shape, wanted = tuple(first["source"].shape[1:]), None if pairs is None else pairs.params.frame_shape[:2]
        if wanted not in (None, shape):
            raise UserError(
                f"pairs: frame_shape is {list(wanted)}, and triples have {list(shape)}; "
                f"set frame_shape to {[*shape, 3]}, or render triples of that size"
            )

    def __len__(self) -> int:
        return len(self.triples)

    def __getitem__(self, key: int | tuple[int, int]) -> Mapping[str, Any]:
        """The item ``(epoch, index)``; a plain index is of epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng([self.seed, epoch, index, 24])
        if self.pairs is None or rng.random() >= self.share:
            return self.triples[epoch, index] | {"made": True, "unreadable": ""}
        # an item of its own for every pair that is asked for: an epoch of triples is many of clips
        pair = self.pairs[epoch * len(self) + index, int(rng.integers(len(self.pairs)))]
        source, target = (pair["frames"][:2] * 255).round().byte()
        seen: dict[str, Tensor] = {"source": source, "driver": target, "target": target}
        return self._unknown | seen | {"made": False, "index": index, "unreadable": pair["unreadable"]}
