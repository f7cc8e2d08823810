"""iBUG's 68 landmarks, read off the 468 of the mesh.

The jaw's points are fixed to the skin, as in 3D mark-ups: where the head turns they do not follow its outline.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Numbers run as seen in the picture, from the left.  Each point is the middle of a vertex of ABOVE and one of BELOW,
# mostly the same: of the jaw some of iBUG's lie between two.
JAW = (127, 234, 93, 132, 172, 136, 149, 176, 152, 400, 378, 365, 397, 361, 323, 454, 356)
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
NOSE = (168, 197, 5, 4, 75, 97, 2, 326, 305)
EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181)
INNER_LIPS = (78, 82, 13, 312, 308, 317, 14, 87)
ABOVE = (*JAW, *BROWS, *NOSE, *EYES, *LIPS, *INNER_LIPS)
LOWER = {132: 58, 176: 148, 400: 377, 361: 288}
BELOW = tuple(LOWER.get(vertex, vertex) for vertex in ABOVE)


def landmarks68(landmarks: Tensor) -> Tensor:
    """The mesh's ``[..., 468, D]`` -> the 68 in iBUG's order, ``[..., 68, D]``."""
    vertices = torch.tensor([ABOVE, BELOW], device=landmarks.device)
    return (landmarks[..., vertices[0], :] + landmarks[..., vertices[1], :]) / 2


def five_points(landmarks: Tensor) -> Tensor:
    """The mesh's ``[..., 468, D]`` -> eyes, tip of the nose, corners of the mouth: ``[..., 5, D]``."""
    points = landmarks68(landmarks)
    left, right = points[..., 36:42, :].mean(-2), points[..., 42:48, :].mean(-2)
    return torch.stack([left, right, points[..., 30, :], points[..., 48, :], points[..., 54, :]], -2)
