"""A puppet: a photograph made ready, once, to be rendered with other expressions and poses."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...faces.filters import blurred, eroded
from .. import camera
from ..geometry import constants
from ..landmarks import sample_grid
from .fit import Fit
from .illumination import read_light
from .layers import Sheet, make_sheet, seen_vertices
from .matte import background_plate, refined_matte
from .mesh import HIGH, LOW, head_normals, mesh
from .warp import closed_mouths, warped_heads

_BROWS = 0.45  # face coordinate Y above which hair and background may be seen through the face's outline
_SCLERA = 0.42  # reflectance of the white of an eye as photographs show it, in the shade of the lids


class Puppets(NamedTuple):
    """B photographs that move; P is a photograph's side in pixels, V the mesh's vertices, N those of its sheet.

    Attributes:
        photo: uint8 [B, 5, P, P]: colour times matte, the matte, and where the inside of an open mouth is seen.
        plate: uint8 [B, 3, P, P] the background without the person.
        head: [B, R, C, 3] the head as in the photograph.
        seen: bool [B, R*C] vertices of the head that the photograph shows well.
        texture: [B, V, 2] where the vertices are in the photograph, in [-1, 1].
        sheet: of the photograph around the face.
        identity: [B, I] of the fit.
        units: [B, 2, A] action units in the photograph.
        lids: [B, 2, 2] lids in the photograph, as of :class:`.fit.Fit`.
        gaze: [B, 2] in the photograph; 0 where nobody has measured it.
        pose: [B, 6] in the photograph.
        light: [B, 4] brightness of skin as a function of its normal in the camera's space: constant, x, y, z.
        white: [B, 3] linear colour of something white in the photograph.
    """

    photo: Tensor
    plate: Tensor
    head: Tensor
    seen: Tensor
    texture: Tensor
    sheet: Sheet
    identity: Tensor
    units: Tensor
    lids: Tensor
    gaze: Tensor
    pose: Tensor
    light: Tensor
    white: Tensor

    @property
    def size(self) -> int:
        """Number of puppets."""
        return len(self.head)

    def take(self, index: Tensor | list[int] | slice) -> Puppets:
        """The puppets at ``index``; one may be there many times."""
        if isinstance(index, slice):
            return self._each(lambda value: value[index])
        rows = torch.as_tensor(index, dtype=torch.long, device=self.head.device)
        return self._each(lambda value: value.index_select(0, rows))

    def to(self, device: torch.device | str) -> Puppets:
        """The same puppets on another device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change) -> Puppets:
        return Puppets(*(Sheet(*map(change, v)) if isinstance(v, Sheet) else change(v) for v in self))

    @staticmethod
    def cat(parts: list[Puppets]) -> Puppets:
        """One batch out of several."""
        columns = zip(*parts, strict=True)
        return Puppets(*(_joined(values) for values in columns))


def _joined(values):
    if isinstance(values[0], Sheet):
        return Sheet(*(torch.cat(parts) for parts in zip(*values, strict=True)))
    return torch.cat(values)


@torch.no_grad()
def make_puppets(photos: Tensor, mattes: Tensor, found: Fit) -> Puppets:
    """Prepare photographs.

    Args:
        photos: [B, 3, P, P] in [0, 1].
        mattes: [B, 1, P, P] in [0, 1], where the person is; a coarse one will do.
        found: the fits, on the same device.
    """
    parts = [_make(photos[i : i + 1], mattes[i : i + 1], found.take(slice(i, i + 1))) for i in range(len(photos))]
    return Puppets.cat(parts)


def _make(photo: Tensor, coarse: Tensor, found: Fit) -> Puppets:
    device, size = photo.device, photo.shape[-1]
    whole, head = mesh(device), warped_heads(found)
    view = camera.view(head.flatten(1, 2), found.pose, torch.ones(whole.heads, device=device))
    normals = head_normals(head) @ view.rotation.transpose(1, 2)
    seen = seen_vertices(normals[0], device)
    matte = refined_matte(photo, coarse)
    plate = background_plate(photo, matte)
    sheet, lattice, cover = make_sheet(view, seen, matte, found)
    matte = torch.maximum(matte, _solid_face(cover, view.points[0], size))
    matte[:, :, :2] = 0  # nothing grows upwards out of the photograph
    colour = (photo - (1 - matte) * plate).clamp(min=0)
    picture = torch.cat([colour, matte, _open_mouth(found, size)], 1)
    return Puppets(
        _bytes(picture),
        _bytes(plate),
        head,
        seen[None],
        torch.cat([view.points, lattice[None]], 1),
        sheet,
        found.identity,
        found.units,
        found.lids,
        torch.zeros(1, 2, device=device),
        found.pose,
        read_light(photo, view.points, normals, seen),
        _white(photo, found.landmarks),
    )


def few_places(pictures: Tensor, place: Tensor) -> Tensor:
    """Pictures, uint8 [B, C, P, P], at places [B, N, 2] in [-1, 1]: [B, N, C] in [0, 1], edges repeated.

    For few places: the rest of the pictures is not looked at.
    """
    column, row = ((place.clamp(-1, 1) + 1) / 2 * (pictures.shape[-1] - 1)).unbind(-1)
    return sample_grid(pictures.permute(0, 2, 3, 1), row, column) / 255


def _bytes(values: Tensor) -> Tensor:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def _solid_face(cover: Tensor, points: Tensor, size: int) -> Tensor:
    """[1, 1, P, P] the face below the brows, which a matte must not make holes in."""
    line = torch.linspace(-1, 1, size, device=points.device)
    x, y = torch.meshgrid(line, line, indexing="xy")
    place = ((torch.stack([x, y], -1) + 1) / 2 - LOW) / (HIGH - LOW) * 2 - 1
    inside = F.grid_sample(eroded(cover, 2), place[None], align_corners=True)
    face = constants(points.device).face.flatten(0, 1)
    brows = points[((face[:, 1] - _BROWS).abs() < 0.02) & (face[:, 0].abs() < 0.5), 1].max()
    return inside * (y > brows)


def _open_mouth(found: Fit, size: int) -> Tensor:
    """[1, 1, P, P] softly 1 between the lips of an open mouth."""
    if bool(closed_mouths(found.landmarks)[0]):
        return torch.zeros(1, 1, size, size, device=found.pose.device)
    inside = polygon(found.landmarks[0, 60:68], size).float()[None, None]
    return blurred(inside, max(1, size // 200))


def _white(photo: Tensor, landmarks: Tensor) -> Tensor:
    """[1, 3] the whites of the eyes, brought to what a perfect white would be."""
    size = photo.shape[-1]
    eyes = polygon(landmarks[0, 36:42], size) | polygon(landmarks[0, 42:48], size)
    pixels = photo[0, :, eyes] ** 2.2
    if not pixels.shape[1]:  # closed eyes
        return torch.full((1, 3), 0.5, device=photo.device) / _SCLERA
    brightness = pixels.mean(0)
    return (pixels[:, brightness >= brightness.quantile(0.75)].mean(1) / _SCLERA)[None]


def polygon(corners: Tensor, size: int) -> Tensor:
    """bool [size, size]: pixels inside a polygon [N, 2] in [-1, 1], by the even-odd rule."""
    line = torch.linspace(-1, 1, size, device=corners.device)
    ends = corners.roll(-1, 0)
    inside = torch.zeros(size, size, dtype=torch.bool, device=corners.device)
    for (ax, ay), (bx, by) in zip(corners.tolist(), ends.tolist(), strict=True):
        if ay == by:
            continue
        crosses = (line >= min(ay, by)) & (line < max(ay, by))
        at = ax + (line - ay) * ((bx - ax) / (by - ay))
        inside ^= crosses[:, None] & (line[None] < at[:, None])
    return inside
