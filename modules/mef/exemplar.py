"""What an exemplar adapter reads of a picture: features of its face place by place, instead of one vector.

Our reading of EmojiDiff's E-Adapter (WACV 2026): tokens of the exemplar's masked face region from an image encoder.
The region is the oval that SID's expression encoder looks at, brows to chin, where SID finds the face.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import media
from ..errors import UserError
from ..faces.window import aspect_of, whole_face, whole_face_in_frame, whole_face_oval
from ..media.tensors import to_tensor
from ..sid.encoders import FACE_FEATURES, SemanticEncoder
from .clip import load_clip

SID = "sid"  # the encoder's name of SID's own
OPTION = "model_params.exemplar_params.encoder"
STRIDE = 8  # pixels of SID's face for each cell of its features
WAVES = (0.5, 1.0, 2.0)  # periods of a cell's position in a face's width


class ExemplarEncoder(nn.Module, ABC):
    """Pictures -> sequences, frozen.

    Args:
        semantic: SID's encoder, which finds the face.
        size: height and width of its frames.

    Attributes:
        name: as the configuration names it.
        cells, width: a sequence is ``[cells, width]``.
    """

    name: str
    cells: int
    width: int

    def __init__(self, semantic: SemanticEncoder, size: tuple[int, int]):
        super().__init__()
        if semantic.finder is None:
            raise UserError(f"{OPTION}: this SID does not look for faces; take one with encoder_params.face_pixels")
        self.semantic, self.size = semantic, size

    @abstractmethod
    def forward(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """uint8 ``[H, W, 3]``, framed as SID wants them, of any sizes -> float32 ``[B, cells, width]``."""

    def frames(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """The pictures at SID's size, ``[B, 3, H, W]`` in [0, 1], on its device."""
        fitted = [media.fit(picture, *self.size) for picture in pictures]
        return to_tensor(fitted, self.semantic.placed.weight.device)


class SIDExemplar(ExemplarEncoder):
    """The last spatial features of SID's semantic encoder, a cell for every 8 pixels of the found face.

    A cell holds ``[expression | pose | position | place]``: what the expression encoder sees there (if SID has one of
    its own), what the pose is read from, both faded out towards the oval's rim; sines and cosines of where in the face
    it is; and the face's place in the frame, which a face cut out upright no longer shows.
    """

    name = SID

    def __init__(self, semantic: SemanticEncoder, size: tuple[int, int]):
        super().__init__(semantic, size)
        side = semantic.side // STRIDE
        seen = 1 if semantic.expression is None else 2
        self.register_buffer("position", _positions(side), persistent=False)
        self.register_buffer("oval", whole_face_oval(side).flatten()[:, None], persistent=False)
        self.cells, self.width = side * side, seen * FACE_FEATURES + self.position.shape[1] + 4

    @torch.no_grad()
    def forward(self, pictures: Sequence[np.ndarray]) -> Tensor:
        semantic = self.semantic
        seen = semantic.look(self.frames(pictures))
        grids = [] if semantic.expression is None else [semantic.expression.grid(seen.whole)]
        grids.append(semantic.features(seen.picture))
        faded = [grid.float().flatten(2).transpose(1, 2) * self.oval for grid in grids]
        alike = [self.position.expand(len(seen.place), -1, -1), seen.place[:, None].expand(-1, self.cells, -1)]
        return torch.cat([*faded, *alike], dim=2)


class CLIPExemplar(ExemplarEncoder):
    """Patch features of a CLIP vision tower, the last layer's but one, as IP-Adapter Plus takes them.

    It is shown the frame, in which all but the face's oval fades to CLIP's mean colour: the face stays where and as
    it leans.
    """

    def __init__(self, semantic: SemanticEncoder, size: tuple[int, int], path: str):
        super().__init__(semantic, size)
        self.name = path
        processor, self.tower = load_clip(path, OPTION)
        config = self.tower.config
        self.side = config.image_size
        for statistic in ("image_mean", "image_std"):
            values = torch.tensor(getattr(processor, statistic))[:, None, None]
            self.register_buffer(statistic, values, persistent=False)
        self.cells, self.width = (self.side // config.patch_size) ** 2 + 1, config.hidden_size

    @torch.no_grad()
    def forward(self, pictures: Sequence[np.ndarray]) -> Tensor:
        frames = self.frames(pictures)
        place = whole_face(self.semantic.look(frames).place, aspect_of(frames))
        height, width = self.size
        scale = self.side / min(self.size)
        fitted = [media.fit(picture, round(height * scale), round(width * scale)) for picture in pictures]
        large = to_tensor(fitted, frames.device)
        mask = whole_face_in_frame(place, *large.shape[2:])
        masked = mask * (large - self.image_mean) / self.image_std
        pixels = F.interpolate(masked, size=(self.side, self.side), mode="bilinear", antialias=True)
        states = self.tower(pixels.to(self.tower.dtype), output_hidden_states=True).hidden_states
        return states[-2].float()


def load_exemplar(encoder: str, semantic: SemanticEncoder, size: tuple[int, int]) -> ExemplarEncoder:
    """The encoder that ``exemplar_params.encoder`` names: ``sid``, or id or folder of a CLIP vision model.

    Raises:
        UserError: there is none, or SID does not look for faces.
    """
    made = SIDExemplar(semantic, size) if encoder == SID else CLIPExemplar(semantic, size, encoder)
    return made.eval().requires_grad_(False)


def _positions(side: int) -> Tensor:
    """Sines and cosines of each cell's x and y in the face's square, ``[side * side, 4 * len(WAVES)]``."""
    along = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(along, along, indexing="ij")
    angles = [wave * math.pi * axis.flatten() for wave in WAVES for axis in (x, y)]
    return torch.stack([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
