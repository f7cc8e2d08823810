"""Colours, flow and face of a puppet at every sample of a picture."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...faces.filters import blurred
from .. import camera
from ..curves import mix, step
from ..eyes import near_eyes
from ..head import head_grid
from ..landmarks import sample_grid
from ..raster import compact, interpolate
from ..wrinkles import wrinkles
from . import eyes
from .illumination import relighting
from .inside import inside_colour
from .marks import as_lids
from .mesh import Mesh, head_normals, is_face, mesh
from .posing import Posed
from .puppet import Puppets
from .states import States

_FOLD = 0.16  # how dark a fold is
_FOLD_TINT = (0.8, 1.05, 1.15)  # blood shows least in red
_UNFOLDED = -0.3  # a fold that the photograph has and the state has not is lightened by this at most
_FOLDED = (1.1, 1.1)  # face coordinates |X| and Y up to which there are folds
_BALL = 0.5  # openness from which on a sample's flow is the eyeball's


class Canvas(NamedTuple):
    """S * S samples of each picture.

    Attributes:
        colour: [B, 4, S*S] pixel values times matte, and the matte.
        flow: [B, 2, S*S] where it comes from, in [-1, 1]; NaN where that is nowhere.
        flow_depth: [B, S*S] distance from the camera there.
        face: [B, S*S] 1 where the face is.
    """

    colour: Tensor
    flow: Tensor
    flow_depth: Tensor
    face: Tensor


def paint(
    puppets: Puppets,
    donors: Puppets,
    is_own: Tensor,
    states: States,
    posed: Posed,
    aim: Posed | None,
    pixels: Tensor,
    nearest: Tensor,
    side: int,
) -> Canvas:
    """Paint what the rasteriser found.

    Args:
        puppets: of the B pictures.
        donors: of their teeth.
        is_own: bool [B], whether the puppets are their own donors.
        states: of the pictures.
        posed: the puppets in them.
        aim: the puppets in the pictures that the flow leads to; without it, it leads to the photographs.
        pixels: [B, V, 2] vertices, in samples.
        nearest: int64 [B, S*S] triangle at each sample, -1 for none.
        side: S.
    """
    whole, batch, device = mesh(pixels.device), puppets.size, pixels.device
    hit, triangle = nearest >= 0, nearest.clamp(min=0)
    light = torch.ones(batch, len(whole.face), device=device)
    light[:, : whole.heads] = _relit(puppets, posed)
    columns = [puppets.texture, whole.face.expand(batch, -1, -1), light[..., None]]
    columns += [] if aim is None else [aim.points, aim.depth[..., None]]
    known = torch.nan_to_num(pixels)
    every = torch.arange(side * side, device=device).expand(batch, -1)
    mixed = interpolate(known, whole.triangles, triangle, every, side, torch.cat(columns, -1))
    texture, x, y, light = mixed[:2], *mixed[2:5]
    flow, depth = (texture, torch.zeros_like(x)) if aim is None else (mixed[5:7], mixed[7])

    kinds = whole.is_mouth, whole.is_sheet
    is_mouth, is_sheet = (kind.index_select(0, triangle.flatten()).view(hit.shape) for kind in kinds)
    is_mouth = is_mouth & hit
    is_skin = hit & ~is_mouth & ~is_sheet
    picture = puppets.photo[:, :4].float()
    colour = _sampled(picture, torch.where(hit, texture, 0.0).permute(1, 2, 0)) * hit[:, None]
    flow = torch.where(hit & ~is_mouth, flow, torch.nan).transpose(0, 1).contiguous()
    depth = torch.where(hit, depth, torch.inf)
    _draw_eyes(colour, flow, depth, picture, puppets, posed, aim, is_skin, x, y)
    shade = 1 - _folds(states, puppets, is_skin, x, y, side)
    colour[:, :3] *= torch.where(is_skin, light, 1.0)[:, None] * torch.where(is_skin[:, None], shade, 1.0)
    pixel, valid = compact(is_mouth)
    if valid.any():
        point = interpolate(known, whole.triangles, triangle.gather(1, pixel), pixel, side, posed.local)
        inside = inside_colour(puppets, donors, is_own, states, point, posed.eye)
        rows, places = valid.nonzero(as_tuple=True)
        colour[rows, :3, pixel[rows, places]] = inside[:, rows, places].T
        colour[rows, 3, pixel[rows, places]] = 1
    face = (is_skin & is_face(x, y)) | is_mouth
    return Canvas(colour, flow, depth, face.float())


def _relit(puppets: Puppets, posed: Posed) -> Tensor:
    before = head_normals(puppets.head) @ camera.rotations(puppets.pose[:, :3]).transpose(1, 2)
    after = head_normals(posed.head) @ posed.rotation.transpose(1, 2)
    return relighting(puppets.light, before, after)


def _sampled(picture: Tensor, place: Tensor) -> Tensor:
    """[B, 4, M] colour and matte in [0, 1], at [B, M, 2], of pictures in bytes."""
    return F.grid_sample(picture, place[:, :, None], padding_mode="border", align_corners=True)[..., 0] / 255


def _grid(values: Tensor, whole: Mesh) -> Tensor:
    """The head's part of values [B, V, C], as a grid [B, R, C, C']."""
    return values[:, : whole.heads].view(len(values), *head_grid().shape, -1)


def _draw_eyes(
    colour: Tensor,
    flow: Tensor,
    depth: Tensor,
    picture: Tensor,
    puppets: Puppets,
    posed: Posed,
    aim: Posed | None,
    is_skin: Tensor,
    x: Tensor,
    y: Tensor,
) -> None:
    """Lids and eyeballs, into colour, flow and depth."""
    pixel, valid = compact(is_skin & near_eyes(x, y))
    if not valid.any():
        return
    whole = mesh(colour.device)
    x, y = x.gather(1, pixel), y.gather(1, pixel)
    now, then = (eyes.opening(lids, x) for lids in (posed.lids, as_lids(puppets.lids)))
    open_ = eyes.openness(x, y, now)
    skin_y = eyes.skin_in_photograph(y, now, then)
    shift = eyes.gaze_shift(posed.gaze - puppets.gaze, x)
    ball_x, ball_y = eyes.ball_in_photograph(x, y, shift, then)

    texture = _grid(puppets.texture, whole)
    skin_at = sample_grid(texture, *whole.grid_place(x, skin_y))
    ball_at = sample_grid(texture, *whole.grid_place(ball_x, ball_y))
    skin, ball = _sampled(picture, skin_at), _sampled(picture, ball_at)
    ball[:, :3] *= eyes.lid_shadow(y, now, then)[:, None]
    seen = mix(skin, ball, open_[:, None].expand_as(skin))
    if aim is not None:
        places = _grid(torch.cat([aim.points, aim.depth[..., None]], -1), whole)
        above = eyes.skin_in_state(skin_y, eyes.opening(aim.lids, x), then, y > (now.top + now.bottom) / 2)
        skin_at = sample_grid(places, *whole.grid_place(x, above))
        # an eyeball is seen where it looks to, if the lids leave it there
        back = eyes.gaze_shift(aim.gaze - puppets.gaze, ball_x)
        there_x, there_y = ball_x + back[..., 0], ball_y + back[..., 1]
        edges = eyes.opening(aim.lids, there_x)
        is_bare = (there_y < edges.top) & (there_y > edges.bottom)
        ball_at = sample_grid(places, *whole.grid_place(there_x, there_y))
        ball_at = torch.where(is_bare[..., None], ball_at, torch.nan)
    place = torch.where((open_ > _BALL)[..., None], ball_at, skin_at)

    rows, columns = valid.nonzero(as_tuple=True)
    at = pixel[rows, columns]
    colour[rows, :, at] = seen[rows, :, columns]
    flow[rows, :, at] = place[rows, columns, :2]
    if aim is not None:
        depth[rows, at] = place[rows, columns, 2]


def _folds(states: States, puppets: Puppets, is_skin: Tensor, x: Tensor, y: Tensor, side: int) -> Tensor:
    """[B, 3, S*S] how much darker folds make the skin than in the photograph.

    They are found on every second sample each way and blurred: sharp ones would look drawn.
    """
    skin, x, y = (values.view(-1, side, side)[:, ::2, ::2].flatten(1) for values in (is_skin, x, y))
    pixel, valid = compact(skin & (x.abs() < _FOLDED[0]) & (y < _FOLDED[1]))
    x, y = x.gather(1, pixel), y.gather(1, pixel)
    left = step(x, -0.05, 0.05)
    change = wrinkles(states.faces(), x, y, left) - wrinkles(eyes.photograph_state(puppets).faces(), x, y, left)
    change = change.clamp(_UNFOLDED, 1.5) * valid
    dark = torch.zeros(skin.shape, device=x.device).scatter_add(1, pixel, change).view(-1, 1, side // 2, side // 2)
    radius = max(1, round(side / 256))
    dark = F.interpolate(blurred(blurred(dark, radius), radius), size=(side, side), mode="bilinear").flatten(2)
    return _FOLD * torch.tensor(_FOLD_TINT, device=x.device)[:, None] * dark
