"""Who a face is, as unit vectors whose cosine tells people apart; one network for losses, another one to judge by.

What a loss has trained against cannot judge it: use MobileFace in losses and FaceRes in measures, not the other way.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .alignment import arcface_chips, cut_squares, upright_square
from .graph import GraphNetwork
from .mesh import LEFT_EYE, RIGHT_EYE

JUDGE_SIZE = 224  # pixels of the square that FaceRes sees
JUDGE_ROOM = 1.1  # its side, in sides of the landmarks
JUDGE_MEAN = (91.4953, 103.8827, 131.0912)  # of blue, green, red, from 0 to 255: VGGFace2's


class MobileFace(nn.Module):
    """A small network trained like ArcFace's, for losses: differentiable in the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.network = GraphNetwork("human_mobileface.fp16")

    def forward(self, images: Tensor, points: Tensor, owner: Tensor | None = None) -> Tensor:
        """Embeddings of unit length, ``[N, 256]``.

        Args:
            images: [B, 3, H, W] in [0, 1].
            points: [N, 5, 2] eyes, tip of the nose, corners of the mouth, in pixels: of the mesh
                (:func:`.landmarks68.five_points`), or of a detector.
            owner: int64 [N], the picture of each face; None: one face per picture.
        """
        (z,) = self.network(255 * arcface_chips(images, points, owner=owner))
        return F.normalize(z, dim=1)


class FaceRes(nn.Module):
    """A larger network, to measure by."""

    def __init__(self) -> None:
        super().__init__()
        self.network = GraphNetwork("human_faceres.fp16")

    def forward(self, images: Tensor, landmarks: Tensor, owner: Tensor | None = None) -> Tensor:
        """Embeddings of unit length, ``[N, 1024]``.

        Args:
            images: [B, 3, H, W] in [0, 1].
            landmarks: [N, 468, 2 or 3] of the mesh, in pixels.
            owner: int64 [N], the picture of each face; None: one face per picture.
        """
        squares = upright_square(landmarks[..., :2], LEFT_EYE, RIGHT_EYE, JUDGE_ROOM)
        faces = cut_squares(images, squares.matrix(JUDGE_SIZE), JUDGE_SIZE, owner)
        mean = faces.new_tensor(JUDGE_MEAN).view(1, 3, 1, 1)
        (z,) = self.network(255 * faces.flip(1) - mean)
        return F.normalize(z, dim=1)
