"""Eyes of a puppet, per pixel: skin is stretched from the photograph's lids to the state's, the eyeball stays."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..curves import mix, step
from ..eyes import BOTTOM, TOP, Lids, across, lid_height
from ..eyes import lids as world_lids
from ..parameters import ACTION_UNITS, neutral, sided
from .marks import MEETING
from .puppet import Puppets
from .states import States

_LASHES = 0.010  # how far a closing lid stays off the line that was marked in the photograph
_RIM = (0.012, 0.016)  # of the eyeball, beside the lower and upper lid: what it shows there is the lids' shadow
BALL_RADIUS = 0.2
_SHADOW = 0.35  # of a lid that has come down, on the eyeball beneath


class Opening(NamedTuple):
    """Edges of lids at pixels, [B, M]: upper and lower, in face coordinates Y."""

    top: Tensor
    bottom: Tensor


def photograph_state(puppets: Puppets) -> States:
    """The state that shows puppets as they are in their photographs."""
    return States(puppets.units, puppets.gaze, puppets.pose)


def state_lids(puppets: Puppets, states: States) -> Lids:
    """Lids of puppets in states: those of the photograph, changed as the face world's change."""

    def opened(some: States) -> tuple[Lids, Tensor]:
        faces = some.faces()
        column = ACTION_UNITS.index("AU43")
        closed = torch.stack(sided(faces)[::-1])[..., column]
        units = faces.action_units.clone()
        units[:, column] = 0
        return world_lids(faces._replace(action_units=units)), closed

    now, closed = opened(states)
    then, was_closed = opened(photograph_state(puppets))
    # what is closed in the photograph opens to the face world's lids
    rest = world_lids(neutral(1).to(puppets.head.device))
    upper = mix(puppets.lids[:, 0].T, rest.upper, was_closed) + now.upper - then.upper
    lower = mix(puppets.lids[:, 1].T, rest.lower, was_closed) + 0.9 * (now.lower - then.lower)
    upper = upper.clamp(min=MEETING)
    lower = torch.maximum(lower, -upper)
    more = ((closed - was_closed) / (1 - was_closed).clamp(min=1e-3)).clamp(0, 1)
    return Lids(mix(upper, MEETING, more), mix(lower, -MEETING - 0.002, more))


def opening(lids: Lids, x: Tensor) -> Opening:
    """Edges at face coordinates X [B, M]."""
    place, left = across(x).clamp(-1, 1), x > 0
    upper = torch.where(left, lids.upper[1][:, None], lids.upper[0][:, None])
    lower = torch.where(left, lids.lower[1][:, None], lids.lower[0][:, None])
    return Opening(lid_height(place, upper, True), lid_height(place, lower, False))


def skin_in_photograph(y: Tensor, now: Opening, photograph: Opening) -> Tensor:
    """Where skin at heights ``y`` in a state is in the photograph."""
    top = _lash_line(now, photograph)
    up = top + (y - now.top) * (TOP - top) / (TOP - now.top).clamp(min=0.02)
    low = photograph.bottom + (y - now.bottom) * (BOTTOM - photograph.bottom) / (BOTTOM - now.bottom).clamp(max=-0.02)
    return torch.where(y > (now.top + now.bottom) / 2, up, low)


def skin_in_state(y: Tensor, now: Opening, photograph: Opening, is_above: Tensor) -> Tensor:
    """The way back: where skin at heights ``y`` of the photograph is in a state."""
    top = _lash_line(now, photograph)
    up = now.top + (y - top) * (TOP - now.top) / (TOP - top).clamp(min=0.02)
    low = now.bottom + (y - photograph.bottom) * (BOTTOM - now.bottom) / (BOTTOM - photograph.bottom).clamp(max=-0.02)
    return torch.where(is_above, up, low)


def _lash_line(now: Opening, photograph: Opening) -> Tensor:
    return photograph.top + _LASHES * step(photograph.top - now.top, 0.0, 0.03)


def openness(x: Tensor, y: Tensor, now: Opening) -> Tensor:
    """Share of a pixel that is eyeball, [B, M]."""
    inside = step(torch.minimum(y - now.bottom, now.top - y), -0.004, 0.012)
    return inside * step(across(x).abs(), 1.0, 0.95)


def gaze_shift(gaze: Tensor, x: Tensor) -> Tensor:
    """[B, M, 2] how far the iris is moved by a change of gaze [B, 2]; the corners of the eye stay."""
    room = (1 - across(x) ** 2).clamp(min=0)
    return BALL_RADIUS * torch.deg2rad(gaze).sin()[:, None] * room[..., None]


def ball_in_photograph(x: Tensor, y: Tensor, shift: Tensor, photograph: Opening) -> tuple[Tensor, Tensor]:
    """Face coordinates, in the photograph, of eyeball at (x, y); what its lids hide is taken from beside them."""
    low, high = photograph.bottom + _RIM[0], (photograph.top - _RIM[1]).clamp(min=-0.03)
    return x - shift[..., 0], torch.minimum(torch.maximum(y - shift[..., 1], low), high)


def lid_shadow(y: Tensor, now: Opening, photograph: Opening) -> Tensor:
    """Factor [B, M] on the eyeball beneath a lid that has come down."""
    lowered = step(photograph.top - now.top, 0.0, 0.02)
    return 1 - _SHADOW * step(now.top - y, 0.05, 0.0) * lowered
