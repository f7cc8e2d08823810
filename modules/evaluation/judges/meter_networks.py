"""The measuring network's own networks.

None of them is SID's, alike as they are: a change of the models must not change what measures them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.sid import EncoderParams
from ...faces.window import aspect_of, contrast, cut_out, face_oval, whole_face, whole_face_oval
from ...geometry import AntiAliasDownsample, full_precision

CELLS, HIDDEN = 32, 256  # numbers in each cell of a face's grid, and in the hidden layer that reads it
POOLED = 4  # cells of a side of a whole picture's grid
FINDER_SIDE = 64  # pixels a picture is shrunk to, to find the face in it
LARGEST_ZOOM = 0.5  # logarithm of the factor by which the window may differ from that
Norm = Callable[[int], nn.Module]  # of so many features
GROUP_NORM: Norm = partial(nn.GroupNorm, 8)


class Face(NamedTuple):
    """A face in each of B pictures: cut out upright ``[B, 3, S, S]``, and its place ``[B, 4]``."""

    picture: Tensor
    place: Tensor


class ActingFace(NamedTuple):
    """The same with the whole face, brows to chin, ``[B, 3, S, S]``."""

    picture: Tensor
    whole: Tensor
    place: Tensor


def _halvings(channels: int, levels: list[int], norm: Norm) -> list[nn.Module]:
    """A halving for each of ``levels``, which are the numbers of features."""
    layers: list[nn.Module] = []
    for i, o in zip([channels, *levels[:-1]], levels, strict=True):
        layers += [nn.Conv2d(i, o, 4, stride=2, padding=1), norm(o), nn.SiLU()]
    return layers


def _looking(channels: int, levels: list[int], norm: Norm) -> list[nn.Module]:
    """Halvings, and a look around each place of the last."""
    last = levels[-1]
    return [*_halvings(channels, levels, norm), nn.Conv2d(last, last, 3, padding=1), norm(last), nn.SiLU()]


class PictureReader(nn.Module):
    """Numbers ``[B, out_dim]`` of whole pictures ``[B, 3, H, W]``."""

    def __init__(self, levels: list[int], out_dim: int):
        super().__init__()
        self.down = AntiAliasDownsample(0.5)
        self.features = nn.Sequential(*_looking(3, levels, GROUP_NORM))
        self.project = nn.Linear(levels[-1] * POOLED**2, out_dim)

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(self.down(image))
        with torch.autocast(image.device.type, enabled=False):
            return self.project(F.adaptive_avg_pool2d(full_precision(features), POOLED).flatten(1))


class FaceReader(nn.Module):
    """Numbers ``[B, out_dim]`` of faces ``[B, channels, S, S]``: lids and corners of the mouth have cells of their own.

    What all faces share is taken off before the cells are read, or at first all the numbers would be the same.
    """

    def __init__(self, params: EncoderParams, channels: int, out_dim: int, norm: Norm):
        super().__init__()
        levels = [min(params.max_features, params.block_expansion * 2**i) for i in range(3)]
        cells = CELLS * (params.face_pixels // 8) ** 2
        self.features = nn.Sequential(
            *_looking(channels, levels, norm), nn.Conv2d(levels[-1], CELLS, kernel_size=1), nn.SiLU()
        )
        self.project = nn.Sequential(
            nn.BatchNorm1d(cells), nn.Linear(cells, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, out_dim)
        )

    def forward(self, face: Tensor) -> Tensor:
        features = self.features(face)
        with torch.autocast(face.device.type, enabled=False):
            return self.project(full_precision(features).flatten(1))


class FaceFinder(nn.Module):
    """Place of the face ``[B, 4]``: logarithm of the size, angle in radians, middle (x, y); at first the middle."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(*_halvings(3, [16, 32, 64, 64], GROUP_NORM))
        self.read = nn.Linear(64 * (FINDER_SIDE // 16) ** 2, 4)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(F.interpolate(image, size=(FINDER_SIDE,) * 2, mode="bilinear", antialias=True))
        with torch.autocast(image.device.type, enabled=False):
            place = self.read(full_precision(features).flatten(1))
            return torch.cat([LARGEST_ZOOM * torch.tanh(place[:, :1] / LARGEST_ZOOM), place[:, 1:]], dim=1)


class PersonEncoder(FaceReader):
    """Who it is, ``[B, identity_dim]`` of unit length; not in training it is the mean of the face's and its mirror's.

    It sees the face twice, as it is and at one contrast: shape shows in any light and on any skin.  With that and batch
    norms it learns who people are in fewer steps (docs/log.md).
    """

    def __init__(self, params: EncoderParams):
        super().__init__(params, 2 * 3, params.identity_dim, nn.BatchNorm2d)
        self.finder, self.side = FaceFinder(), params.face_pixels
        self.register_buffer("oval", face_oval(self.side), persistent=False)

    def see(self, image: Tensor, place: Tensor) -> Face:
        return Face(cut_out(image, place, self.side), place)

    def embed(self, seen: Face) -> Tensor:
        centred, deviation = contrast(seen.picture, self.oval)
        views = torch.cat([seen.picture, centred / deviation], dim=1)
        z = F.normalize(self(views), dim=-1)
        return z if self.training else F.normalize(z + F.normalize(self(views.flip(-1)), dim=-1), dim=-1)


class ActingEncoder(FaceReader):
    """What the face does: z_exp ``[B, expression_dim]`` and z_pose ``[B, pose_dim]``, which share its place alone.

    z_exp is that of the whole face and its mirror image, averaged: of an expression on one side it tells how strong it
    is, and not on which.
    """

    def __init__(self, params: EncoderParams):
        super().__init__(params, 3, params.pose_dim, GROUP_NORM)
        self.finder, self.side = FaceFinder(), params.face_pixels
        self.placed = nn.Linear(4, params.pose_dim)  # a face cut out upright no longer shows where it was
        self.expression = FaceReader(params, 3, params.expression_dim, nn.BatchNorm2d)
        self.register_buffer("oval", whole_face_oval(self.side), persistent=False)
        self.register_buffer("in_mirror", torch.ones(params.expression_dim))  # in the files, and always 1

    def see(self, image: Tensor, place: Tensor) -> ActingFace:
        whole = cut_out(image, whole_face(place, aspect_of(image)), self.side)
        return ActingFace(cut_out(image, place, self.side), whole, place)

    def embed(self, seen: ActingFace) -> tuple[Tensor, Tensor]:
        pose = self(seen.picture)
        with torch.autocast(pose.device.type, enabled=False):
            return self.read_expression(seen.whole), pose + self.placed(seen.place.detach())

    def read_expression(self, whole: Tensor) -> Tensor:
        """z_exp of whole faces ``[B, 3, S, S]``."""
        centred, deviation = contrast(torch.cat([whole, whole.flip(-1)]), self.oval)
        says, mirrored = self.expression(self.oval * centred / deviation).chunk(2)
        return (says + mirrored) / 2
