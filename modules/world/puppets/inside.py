"""The inside of a puppet's mouth: the face world's, in the photograph's light, or teeth that a photograph shows."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import camera
from ..curves import mix
from ..geometry import constants
from ..head import head_grid
from ..light import Light
from ..mouth import mouth_colour
from ..parameters import ACTION_UNITS
from .mesh import unit_fields
from .puppet import Puppets, few_places
from .states import States

_FRONT, _CURVE = 1.37, 0.75  # the row of teeth, as the face world has it: z = front - curve x^2
_TEETH_LIGHT = 0.65  # of what a perfect white would be, from the lamp and again from the surroundings
_TEETH_DOWN = 0.03  # interocular distances that upper teeth are seen lower than the face world has them, in full ...
_BARING = [ACTION_UNITS.index(name) for name in ("AU12", "AU25", "AU26")]  # ... when one of these bares them
_GAIN = (0.8, 1.2)  # of one photograph's light over another's


def mouth_offset(puppets: Puppets) -> Tensor:
    """[B, 3] from the mean head's mouth to that of the puppets, without expression."""
    fixed, grid = constants(puppets.head.device), head_grid()
    middle = grid.slit, grid.shape[1] // 2
    place = middle[0] * grid.shape[1] + middle[1]
    fields = unit_fields(puppets.head.device)
    moved = puppets.units.flatten(1) @ fields.view(len(fields), -1, 3)[:, place]
    return puppets.head[:, middle[0], middle[1]] - moved - fixed.mean[middle]


def inside_colour(
    puppets: Puppets, donors: Puppets, is_own: Tensor, states: States, point: Tensor, eye: Tensor
) -> Tensor:
    """[3, B, M], pixel values, for rays from ``eye`` [B, 3] through ``point`` [3, B, M] between the lips, in the head's
    space.

    Donors are B puppets whose photographs may show teeth.  Where ``is_own``, bool [B], they are the puppets themselves,
    and what is seen up to the edge of the lips is used; of others less, or their lips would show.
    """
    offset = mouth_offset(puppets)
    point, eye = point - offset.T[..., None], eye - offset
    half = (_TEETH_LIGHT * puppets.white).T[..., None]
    forward = torch.tensor([0.0, 0.0, 1.0], device=point.device).expand(len(eye), 3)
    down = _TEETH_DOWN * states.units[:, :, _BARING].mean(1).amax(1)
    lifted = torch.stack([point[0], point[1] + down[:, None], point[2]])
    painted = mouth_colour(states.faces(), lifted, eye, Light(forward, half, half, torch.zeros_like(half)))
    painted = painted.clamp(1e-4, 1) ** (1 / 2.2)
    teeth, share = _photographed(donors, point, eye)
    share = torch.where(is_own[:, None], 3 * share, 2 * share - 1).clamp(0, 1)
    gain = (puppets.white / donors.white).clamp(*_GAIN) ** (1 / 2.2)
    return mix(painted, (teeth * gain.T[..., None]).clamp(0, 1), share)


def _photographed(donors: Puppets, point: Tensor, eye: Tensor) -> tuple[Tensor, Tensor]:
    """Colour [3, B, M] of the donors' teeth where rays meet them, and [B, M] whether their photographs show it."""
    ray = point - eye.T[..., None]
    ray = ray / ray[2:].clamp(max=-1e-3).neg()

    def before(place: Tensor) -> Tensor:
        return place[2] - (_FRONT - _CURVE * place[0] ** 2)

    depth = before(point).clamp(min=0)
    for _ in range(2):
        depth = (depth + before(point + ray * depth)).clamp(0, 0.6)
    place = (point + ray * depth).permute(1, 2, 0) + mouth_offset(donors)[:, None]
    still = torch.ones(place.shape[1], device=place.device)
    seen = camera.view(place, donors.pose, still).points
    is_there = seen.abs().amax(-1, keepdim=True) <= 1
    got = (few_places(donors.photo, seen) * is_there).permute(2, 0, 1)
    return got[:3] / got[3:4].clamp(min=1e-3), got[4]
