"""What brings an identity and an expression into a frozen base, seen from outside: adapters or a branch."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..errors import UserError
from ..training.checkpoint import check_tensors
from .projections import first_layer, reads_exemplar

NAMES = ("identity", "expression")  # their order wherever there is a list of two
Scale = float | dict[str, Any]  # a strength, or per block as diffusers' ``set_ip_adapter_scale`` takes it


class Widths(NamedTuple):
    """Numbers in each embedding."""

    identity: int
    expression: int


class Conditions(nn.Module, ABC):
    """Embeddings become tokens, and the UNet of a base reads them.

    However they do it, a UNet is given the embeddings as IP-Adapters are: ``added_cond_kwargs["image_embeds"]``, a list
    of two, ``[B, 1, width]``, of an exemplar ``[B, 1, cells, width]``; zeros stand for none.

    Attributes:
        projections: embedding ``[B, 1, width]`` -> tokens ``[B, N, cross_attention_dim]``, identity then expression.
        takes_masks: whether pictures may say where in the result they act.
    """

    projections: nn.ModuleList
    takes_masks = False

    @property
    def widths(self) -> Widths:
        return Widths(*(first_layer(projection).in_features for projection in self.projections))

    @property
    def reads_exemplar(self) -> bool:
        """Whether the expression is an exemplar's sequence ``[B, cells, width]`` instead of a vector ``[B, width]``."""
        return reads_exemplar(self.projections[1])

    @torch.no_grad()
    def standardise(self, embeddings: Sequence[Tensor]) -> None:
        """Let each projection's first layer start on standardised numbers: ``W (z - mean) / deviation + b``.

        Embeddings are of any scale; without this a unit-length one would drown in the biases.

        Args:
            embeddings: ``[N, width]`` of the data set, identity then expression; of exemplars ``[N, cells, width]``.
        """
        for projection, z in zip(self.projections, embeddings, strict=True):
            first = first_layer(projection)
            z = z.flatten(0, -2).to(first.weight)
            first.weight /= z.std(dim=0).clamp_min(1e-3) if len(z) > 1 else 1.0
            first.bias -= first.weight @ z.mean(dim=0)

    @contextlib.contextmanager
    def acting(self, unet: UNet2DConditionModel) -> Iterator[None]:
        """Within the block the UNet of the base does what the embeddings say."""
        yield

    def recompute_activations(self) -> None:
        """Save memory in training, at the price of time, in what the UNet's own setting does not reach."""

    @abstractmethod
    def trainable(self) -> list[nn.Parameter]:
        """The parameters to train, made float32 and trainable."""

    @abstractmethod
    def set_scales(self, base: Any, identity: Scale, expression: Scale) -> None:
        """Strength of each in a pipeline of the base: 0 off, 1 as trained.  Raises UserError for what cannot be."""

    @abstractmethod
    def state(self) -> dict[str, dict[str, dict[str, Tensor]]]:
        """What checkpoints hold: entry -> part -> tensors by name."""

    @abstractmethod
    def load(self, entries: dict[str, Any], where: str) -> None:
        """Take over what :meth:`state` gave.  Raises UserError, naming ``where``, where it does not fit."""

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """Write the files of a folder that pipelines load; return what its ``config.json`` has to say of them."""


def check_entry(entries: Any, own: dict[str, Tensor], where: str, belongs: str) -> None:
    """Raise UserError where saved tensors are not all finite, or have not the names and shapes of one's ``own``.

    Args:
        where: what an error names as the place.
        belongs: what it says of tensors that do not fit.
    """
    check_tensors(entries, where)
    if {name: value.shape for name, value in entries.items()} != {name: value.shape for name, value in own.items()}:
        raise UserError(f"{where} {belongs}")
