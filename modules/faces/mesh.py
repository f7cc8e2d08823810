"""468 landmarks of a face in 3D, by MediaPipe's face mesh.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", CVPRW 2019.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .alignment import Squares, cut_squares, upright_square
from .graph import GraphNetwork

SIZE = 192  # pixels of the square that the network sees
LEFT_EYE, RIGHT_EYE = 33, 263  # outer corners, as seen in the picture
FROM_BOX, FROM_LANDMARKS = 1.25, 1.5  # the square's side, in sides of the detected box or of the landmarks


class Mesh(NamedTuple):
    """N faces.

    Attributes:
        points: [N, 468, 3] x, y and depth in pixels of the picture; less depth is nearer to the camera.
        presence: [N] in [0, 1]: that there is a face.
    """

    points: Tensor
    presence: Tensor


class FaceMesh(nn.Module):
    """Landmarks of faces whose place is known: from a detector, or from the frame before."""

    def __init__(self) -> None:
        super().__init__()
        self.network = GraphNetwork("mp_mesh468.fp16")

    def forward(self, images: Tensor, squares: Squares, owner: Tensor | None = None) -> Mesh:
        """One pass.

        Args:
            images: [B, 3, H, W] in [0, 1].
            squares: N places of faces.
            owner: int64 [N], the picture of each; None: one face per picture.
        """
        faces = cut_squares(images, squares.matrix(SIZE), SIZE, owner, outside="zeros")
        presence, points = sorted(self.network(faces), key=lambda output: output.numel())
        points = points.reshape(-1, 468, 3) / SIZE
        depth = points[..., 2:] * squares.side[:, None, None]
        return Mesh(torch.cat([squares.to_picture(points[..., :2]), depth], -1), presence.flatten().sigmoid())

    def refine(self, images: Tensor, landmarks: Tensor, owner: Tensor | None = None) -> Mesh:
        """Landmarks in the square of earlier ones, ``[N, K, 3]``: a second pass, or the frame before's."""
        return self(images, square_of_landmarks(landmarks), owner)

    def from_points(self, images: Tensor, boxes: Tensor, points: Tensor, owner: Tensor | None = None) -> Mesh:
        """Landmarks of detected faces, in two passes: ``boxes [N, 4]`` and ``points [N, 5, 2]`` of a detector."""
        with torch.no_grad():
            first = self(images, square_of_points(boxes, points), owner)
        return self.refine(images, first.points, owner)


def square_of_points(boxes: Tensor, points: Tensor) -> Squares:
    """Where to look for the landmarks of detected faces: around box and points, along the eyes."""
    across = points[:, 1] - points[:, 0]
    centre = (points.mean(1) + (boxes[:, :2] + boxes[:, 2:]) / 2) / 2
    side = FROM_BOX * (boxes[:, 2:] - boxes[:, :2]).amax(1)
    return Squares(centre, side, torch.atan2(across[:, 1], across[:, 0]))


def square_of_landmarks(landmarks: Tensor) -> Squares:
    """Where to look for them again.  No gradient: the landmarks are those in the square, wherever it is."""
    return upright_square(landmarks[..., :2].detach(), LEFT_EYE, RIGHT_EYE, FROM_LANDMARKS)
