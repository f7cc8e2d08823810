"""From parameters to pictures."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import coordinate_grid
from . import camera, colours, geometry
from .background import background
from .clothes import body_colour
from .curves import mix, unit
from .eyes import Lids, eye_colour, lids, near_eyes
from .features import Paint
from .geometry import BODY, EAR, HAIR, HAT, MOUTH, SKIN, Surface
from .glasses import add_glasses
from .landmarks import eye_surface, surface_landmarks
from .light import Light, light, shade
from .mouth import mouth_colour
from .parameters import Faces, category
from .raster import compact, interpolate, rasterise
from .strands import hair_colour, hat_colour
from .truth import averaged, is_seen, pixel_flow

OVERSAMPLING = 2  # samples per pixel each way
# Pixels at a time: what fits a CPU's cache; on a GPU enough to keep it busy, in 3 GiB (128 x 128 pixels take 12 MiB).
AT_ONCE = {"cpu": 2**16, "cuda": 2**22}
_OPAQUE = 0.5  # of a pixel, from which on it is the person's


class Render(NamedTuple):
    """Pictures and their truth.

    Attributes:
        image: [B, 3, H, W] in [0, 1].
        mask: [B, 1, H, W] share of the pixel that is face: skin from the hair to the jaw, eyes, mouth and beard; not
            ears, neck, hair, glasses or hats.
        landmarks: [B, 68, 2] as (x, y) in [-1, 1], whether seen or hidden.
    """

    image: Tensor
    mask: Tensor
    landmarks: Tensor


class Flow(NamedTuple):
    """Where what pictures show is in the pictures of other faces.

    Attributes:
        flow: [B, H, W, 2] backward flow in [-1, 1]; beside the person everything stands still.
        valid: [B, 1, H, W] 1 where the flow is the geometric truth and what it points to is seen there: on the person,
            but for eyes, lids, glasses and the inside of the mouth.
    """

    flow: Tensor
    valid: Tensor


@torch.no_grad()
def render(faces: Faces, size: int = 128) -> Render:
    """Draw faces as ``size`` x ``size`` pictures, on the device of the parameters."""
    if faces.size == 0:
        empty = faces.identity.new_zeros
        return Render(empty(0, 3, size, size), empty(0, 1, size, size), empty(0, 68, 2))
    parts = [_render(faces.take(rows), size, None)[0] for rows in _chunks(faces, size)]
    return Render(*(torch.cat(values) for values in zip(*parts, strict=True)))


@torch.no_grad()
def render_with_flow(faces: Faces, to: Faces, size: int = 128) -> tuple[Render, Flow]:
    """The same, one face at least, and the flow to the pictures of ``to``: the same people in the same scenes."""
    parts = [_render(faces.take(rows), size, to.take(rows)) for rows in _chunks(faces, size)]
    pictures, flows = zip(*parts, strict=True)
    return (
        Render(*(torch.cat(values) for values in zip(*pictures, strict=True))),
        Flow(*(torch.cat(values) for values in zip(*flows, strict=True))),
    )


def _chunks(faces: Faces, size: int) -> list[slice]:
    chunk = max(1, AT_ONCE.get(faces.identity.device.type, AT_ONCE["cpu"]) // size**2)
    return [slice(i, i + chunk) for i in range(0, faces.size, chunk)]


@torch.no_grad()
def project_landmarks(faces: Faces) -> Tensor:
    """[B, 68, 2], what :func:`render` gives as landmarks, without drawing anything."""
    return _landmarks(faces, geometry.heads(faces)[1], lids(faces))


def _landmarks(faces: Faces, head: Tensor, eyes: Lids) -> Tensor:
    points = surface_landmarks(head, eyes)
    return camera.view(points, faces.pose, torch.ones(68, device=points.device)).points


class _Fragments(NamedTuple):
    """Samples of one part of the surface: numbers [B, M] on the canvas, which of them count, values [C, B, M]."""

    pixel: Tensor
    valid: Tensor
    coordinates: Tensor  # [3, B, M]
    point: Tensor  # in the head's space
    normal: Tensor  # in the camera's


class _Canvas:
    """Samples in linear light, black where nothing is, and the face mask."""

    def __init__(self, faces: Faces, size: int):
        self._batch, self._size = faces.size, size
        self._samples = faces.identity.new_zeros(4, faces.size * size * size + 1)  # the last one catches padding

    def put(self, fragments: _Fragments, colour: Tensor, mask: Tensor | None = None) -> None:
        """Colour [3, B, M] and face mask [B, M] of fragments."""
        area = self._size * self._size
        first = torch.arange(self._batch, device=colour.device)[:, None] * area
        place = torch.where(fragments.valid, fragments.pixel + first, self._batch * area).flatten()
        self._samples[:3].index_copy_(1, place, colour.flatten(1))
        if mask is not None:
            self._samples[3].index_copy_(0, place, mask.flatten())

    def averaged(self) -> tuple[Tensor, Tensor]:
        """Colour [B, 3, H, W] and mask [B, 1, H, W] of whole pixels."""
        pixels = _average(self._samples[:, :-1].reshape(4, self._batch, self._size, self._size)).transpose(0, 1)
        return pixels[:, :3], pixels[:, 3:]


def _average(samples: Tensor) -> Tensor:
    """Means of the samples [..., S, S] of each pixel."""
    rows = sum(samples[..., i::OVERSAMPLING, :] for i in range(OVERSAMPLING))
    return sum(rows[..., i::OVERSAMPLING] for i in range(OVERSAMPLING)) * (1 / OVERSAMPLING**2)


def _render(faces: Faces, size: int, to: Faces | None) -> tuple[Render, Flow | None]:
    surface = geometry.build(faces)
    view = camera.view(surface.points, faces.pose, surface.follows)
    side = OVERSAMPLING * size
    points = camera.pixels(view.points, size) * OVERSAMPLING
    triangles, parts, two_sided = geometry.visible_triangles(faces)
    nearest, depth = rasterise(points, view.depth, triangles, two_sided, side)
    covered = nearest >= 0
    part = torch.where(covered, parts.index_select(0, nearest.clamp(min=0).flatten()).view(nearest.shape), -1)
    normals = camera.turn(surface.normals, faces.pose, surface.follows)
    values = torch.cat([surface.coordinates, surface.points, normals], -1)

    def fragments(chosen: Tensor) -> _Fragments:
        pixel, valid = compact(chosen)
        triangle = nearest.gather(1, pixel).clamp(min=0)
        mixed = interpolate(points, triangles, triangle, pixel, side, values)
        normal = unit(mixed[6:])
        return _Fragments(pixel, valid, mixed[:3], mixed[3:6], normal)

    lamp, canvas, eyes = light(faces), _Canvas(faces, side), lids(faces)
    _draw_skin(canvas, faces, surface, eyes, view, lamp, fragments(part == SKIN), part)
    _draw_others(canvas, faces, view, lamp, fragments, part)

    colour, mask = canvas.averaged()
    there = _average(covered.float().view(1, -1, side, side)).transpose(0, 1)
    image = colour + (1 - there) * background(faces, size)
    if (category(faces, "glasses") > 0).any():
        near = -F.max_pool2d(-depth.view(-1, 1, side, side), OVERSAMPLING)[:, 0]
        image, mask = add_glasses(faces, image, mask, near, view, surface, lamp)
    picture = Render(colours.to_display(image), mask, _landmarks(faces, surface.head, eyes))
    if to is None:
        return picture, None
    flow, valid = _flow(to, points, nearest, part, triangles, two_sided, surface.coordinates, size)
    is_person = there >= _OPAQUE
    still = coordinate_grid(size, size, flow)
    shown = torch.where(is_person.permute(0, 2, 3, 1), flow.permute(0, 2, 3, 1), still)
    return picture, Flow(shown, (valid & is_person).float())


def _flow(
    to: Faces,
    points: Tensor,
    nearest: Tensor,
    part: Tensor,
    triangles: Tensor,
    two_sided: Tensor,
    coordinates: Tensor,
    size: int,
) -> tuple[Tensor, Tensor]:
    """Flow [B, 2, H, W] to the picture of other faces, and bool [B, 1, H, W] where it is known and seen there."""
    side = OVERSAMPLING * size
    surface = geometry.build(to)
    aim = camera.view(surface.points, to.pose, surface.follows)
    pixel = torch.arange(side * side, device=points.device).expand(len(points), -1)
    values = torch.cat([aim.points, aim.depth[..., None], coordinates[..., :2]], -1)
    x, y, depth, across, up = interpolate(points, triangles, nearest.clamp(min=0), pixel, side, values)
    is_eye = (part == SKIN) & near_eyes(across, up)
    known = (part >= 0) & (part != MOUTH)
    flow = torch.where(known[:, None], torch.stack([x, y], 1), torch.nan)
    _, front = rasterise(camera.pixels(aim.points, size) * OVERSAMPLING, aim.depth, triangles, two_sided, side)
    mean, agrees = pixel_flow(flow, size)
    agrees &= is_seen(flow, depth, front, size) & (averaged(is_eye.float(), size) == 0)
    return mean, agrees & (mean.abs() <= 1).all(1, keepdim=True)


def _draw_skin(
    canvas: _Canvas,
    faces: Faces,
    surface: Surface,
    eyes: Lids,
    view: camera.View,
    lamp: Light,
    skin: _Fragments,
    part: Tensor,
) -> None:
    x, y, front = skin.coordinates
    paint = Paint(faces, eyes, x, y, front, geometry.constants(x.device).face[0, :, 0].contiguous())
    colour = shade(paint.albedo, skin.normal, lamp, paint.occlusion, paint.gloss, 14, (0.42, 0.27, 0.22))
    pixel, valid = compact((paint.open > 0.004) & skin.valid)
    seen = paint.open.gather(1, pixel)
    centre = eye_surface(surface.still) - torch.tensor([0.0, 0.0, 0.2], device=x.device)

    def at(values: Tensor) -> Tensor:
        return values.gather(-1, pixel.expand(*values.shape[:-1], -1))

    ball = eye_colour(
        faces, at(skin.point), at(x), at(y), at(paint.top), at(paint.bottom), centre, view.eye, view.rotation, lamp
    )
    blended = mix(at(colour), ball, seen)
    rows, columns = valid.nonzero(as_tuple=True)
    colour[:, rows, pixel[rows, columns]] = blended[:, rows, columns]
    canvas.put(skin, colour, paint.face)


def _draw_others(canvas: _Canvas, faces: Faces, view: camera.View, lamp: Light, fragments, part: Tensor) -> None:
    skin = colours.skin(faces)
    if (part == MOUTH).any():
        inside = fragments(part == MOUTH)
        canvas.put(inside, mouth_colour(faces, inside.point, view.eye, lamp), torch.ones_like(inside.point[0]))
    if (part == EAR).any():
        ear = fragments(part == EAR)
        red = torch.tensor([1.05, 0.86, 0.84], device=skin.device)[:, None, None]
        canvas.put(ear, shade(skin * red, ear.normal, lamp, 0.8, 0.04, 14, (0.5, 0.3, 0.25)))
    if (part == BODY).any():
        body = fragments(part == BODY)
        canvas.put(body, body_colour(faces, body.point, body.normal, lamp))
    if (part == HAIR).any():
        hair = fragments(part == HAIR)
        canvas.put(hair, hair_colour(faces, hair.coordinates, hair.normal, hair.point, lamp))
    if (part == HAT).any():
        hat = fragments(part == HAT)
        canvas.put(hat, hat_colour(faces, hat.coordinates, hat.normal, lamp))
