"""Who tells painted mouths and eyes from real ones: patch discriminators of the close-ups (LSGAN)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .. import losses
from .closeups import rings
from .parts import EYES, MOUTH, Part, cut, part_square

WIDTHS = (32, 64, 96)


class CloseUps(NamedTuple):
    """Mouths ``[B, 3 + 2, S, S]``, and eyes of B faces ``[2 B, 3 + 1, S, S]``: colours, and where their rings are."""

    mouths: Tensor
    eyes: Tensor

    def colours(self) -> tuple[Tensor, Tensor]:
        """Of mouths and of eyes, without where their rings are."""
        return self.mouths[:, :3], self.eyes[:, :3]


def close_ups(frames: Tensor, points: Tensor) -> CloseUps:
    """Of frames ``[B, 3, H, H]`` with ``points [B, 468, 3]``; the right eye is seen in a mirror."""

    def part(which: Part) -> Tensor:
        squares = part_square(points, which, frames)
        return torch.cat([cut(frames, squares, which), rings(points, which, squares, frames.shape[-1])], dim=1)

    return CloseUps(part(MOUTH), torch.cat([part(eye) for eye in EYES]))


class Critic(nn.Module):
    """Close-ups -> of mouths and of eyes, feature maps and patch scores ``[N, 1, h, w]``."""

    def __init__(self) -> None:
        super().__init__()
        self.mouth, self.eye = _Patches(3 + len(MOUTH.rings)), _Patches(3 + len(EYES[0].rings))

    def forward(self, seen: CloseUps) -> list[tuple[list[Tensor], Tensor]]:
        return [self.mouth(seen.mouths), self.eye(seen.eyes)]


class _Patches(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        widths = (inputs, *WIDTHS)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, out: Tensor) -> tuple[list[Tensor], Tensor]:
        features = []
        for layer in self.layers:
            out = F.leaky_relu(layer(out), 0.2)
            features.append(out)
        return features, self.score(out)


class Judged(NamedTuple):
    """Close-ups of the pictures that were made, and of those that were to be made."""

    made: CloseUps
    real: CloseUps


def generator_terms(critic: Critic, judged: Judged) -> tuple[Tensor, Tensor]:
    """How far painted close-ups are from passing for real ones, and how far their features are from those of the real.

    The second is pix2pixHD's feature matching (Wang et al., 2018, eq. 4).
    """
    fake = critic(judged.made)
    with torch.no_grad():
        real = critic(judged.real)
    apart = [
        (a - b).abs().mean()
        for (ours, _), (theirs, _) in zip(fake, real, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    ]
    return losses.generator_gan([scores for _, scores in fake]), torch.stack(apart).mean()


class CriticStep(nn.Module):
    """The critic's loss on what the generator's step has made."""

    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, judged: Judged) -> tuple[dict[str, Tensor], None]:
        made = CloseUps(*(part.detach() for part in judged.made))
        real, fake = ([scores for _, scores in self.critic(seen)] for seen in (judged.real, made))
        return {"critic": losses.discriminator_gan(real, fake)}, None
