"""What of a moved face is shown in the picture it was cut out of, and in which colours.

All of it is found on small pictures of the crop: masks and colours are smooth.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from .. import media
from ..media.tensors import to_tensor
from .detail import unchanged
from .filters import blurred, dilated, filled, ramp
from .matte import SIZE, PersonMatte
from .region import Region

RIM = 0.08  # of the crop's side: over this width results fade out at its edge
PERSON = (0.1, 0.6)  # of a matte, between which a pixel comes to count as the person's
SOFT = 3  # small pixels of a mean, taken twice: a mask falls from 1 to 0 over four times as many
GROWN = 2 * SOFT + 5  # by how much a mask is larger: it is still 1 where hair ends that a matte does not hold
FACE = (0.5, 0.57, 0.19, 0.24)  # middle and half axes of what is face in any crop, whatever the matte says
FADING = 0.2  # of an oval's half axes, over which what is painted in it fades out
COARSE = 4  # small pixels, each way, over which colours are compared
ALIKE = 0.1  # difference of colours that light makes; more is something else that is seen there
DOUBT = 1e-3  # weight of no correction at all, beside what the border says


class Blend(NamedTuple):
    """Of one result, at ``SIZE`` x ``SIZE`` pixels.

    Attributes:
        share: of the result in what is seen, ``[1, 1, S, S]``; exactly 0 where the picture stays as it is.
        same: 1 where the result has not changed, ``[1, 1, S, S]``.
        colour: to be added to the result, ``[1, 3, S, S]`` in [-1, 1].
    """

    share: Tensor
    same: Tensor
    colour: Tensor


@lru_cache(maxsize=2)
def load_matte(device: torch.device) -> PersonMatte:
    """The bundled network on ``device``, read once."""
    return PersonMatte().to(device).eval()


class Blends(Protocol):
    """Says how results of one crop are shown."""

    def blend(self, result: np.ndarray) -> Blend:
        """Of a result, uint8 ``[P, P, 3]``."""


class RegionBlender:
    """Shows results in an oval alone, fading out towards its outline.

    Args:
        own: the crop as it was, uint8 ``[P, P, 3]``.
        region: the oval, in a crop of side 1.
    """

    def __init__(self, own: np.ndarray, region: Region, device: torch.device):
        self._own = to_tensor([media.resize(own, SIZE, SIZE)], device)
        large = region._replace(
            x=SIZE * region.x, y=SIZE * region.y, across=SIZE * region.across, down=SIZE * region.down
        )
        # what a pixel says is spread over its neighbours where it is enlarged: the last one before the outline says 0
        distance = large.distance(SIZE, SIZE) + 1 / min(large.across, large.down)
        self._share = (ramp((1 - distance) / FADING)[None, None] * rim(SIZE)).to(device)

    @torch.inference_mode()
    def blend(self, result: np.ndarray) -> Blend:
        seen = to_tensor([media.resize(result, SIZE, SIZE)], self._own.device)
        return Blend(self._share, unchanged(seen, self._own), _correction(self._own - seen, self._share))


class Blender:
    """Blends results of one crop.

    Args:
        own: the crop as it was, uint8 ``[P, P, 3]``.
        device: of the matte's network.
    """

    def __init__(self, own: np.ndarray, device: torch.device):
        self.device = device
        self._own, self._person = self._seen(own)
        self._rim = rim(SIZE).to(device)

    @torch.inference_mode()
    def blend(self, result: np.ndarray) -> Blend:
        """How ``result``, uint8 ``[P, P, 3]``, is shown.

        The mask holds the person where they were and where they are now: what the head leaves is the model's picture
        of what is behind, not the old head.
        """
        seen, person = self._seen(result)
        mask = dilated(torch.maximum(person, self._person), GROWN)
        share = blurred(blurred(mask, SOFT), SOFT) * self._rim
        return Blend(share, unchanged(seen, self._own), _correction(self._own - seen, share))

    @torch.inference_mode()
    def _seen(self, picture: np.ndarray) -> tuple[Tensor, Tensor]:
        """The small picture, and where the person is in it, ``[1, 1, S, S]``: 0 or 1 but for a narrow border."""
        small = to_tensor([media.resize(picture, SIZE, SIZE)], self.device)
        low, high = PERSON
        person = ((load_matte(self.device)(small) - low) / (high - low)).clamp(0, 1)
        return small, with_face(torch.maximum(person, _face(self.device)))


def with_face(person: Tensor) -> Tensor:
    """The part of a mask ``[1, 1, S, S]`` that hangs together with the middle of the face; others in the crop go."""
    side = person.shape[-1]
    parts, _ = ndimage.label(person[0, 0].cpu().numpy() > 0)
    own = parts == parts[int(FACE[1] * side), int(FACE[0] * side)]
    return person * torch.from_numpy(own).to(person)


def rim(side: int) -> Tensor:
    """1 inside, falling smoothly to 0 at the edges, ``[side, side]``."""
    pixels = torch.arange(side) + 0.5
    line = ramp(torch.minimum(pixels, side - pixels) / side / RIM)
    return line[:, None] * line


def _face(device: torch.device) -> Tensor:
    line = (torch.arange(SIZE, device=device) + 0.5) / SIZE
    x, y, across, down = FACE
    return ((((line - x) / across) ** 2)[None] + (((line - y) / down) ** 2)[:, None] < 1).float()[None, None]


def _correction(lacking: Tensor, share: Tensor) -> Tensor:
    """Low-frequency colours ``[1, 3, S, S]`` that a result lacks along the mask's border, diffused inwards."""
    lacking, share = F.avg_pool2d(lacking, COARSE), F.avg_pool2d(share, COARSE)
    alike = torch.exp(-(lacking.abs().amax(1, keepdim=True) / ALIKE).square())
    border = 4 * share * (1 - share) * alike
    weight = border + DOUBT
    coarse = filled(lacking * border / weight, weight)
    return F.interpolate(blurred(coarse, 2), (SIZE, SIZE), mode="bilinear")
