"""The points of a face that SID moves: those of the face mesh, found by the bundled network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...faces.alignment import Squares
from ...faces.mesh import FaceMesh

COUNT = 468
# fmt: off
OUTLINE = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
           150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)  # as seen in the picture
RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
BROW_POINTS = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
NOSE_POINTS = (168, 6, 197, 195, 5, 4, 1, 2, 98, 97, 326, 327, 48, 278, 64, 294)
SKIN = (50, 280, 205, 425, 187, 411, 36, 266, 101, 330, 123, 352, 147, 376, 151, 9, 108, 337, 69, 299, 104, 333,
        175, 199, 200, 18, 43, 273, 210, 430, 164, 165, 391)
# fmt: on
# What the face is moved by.
MOVED = (*OUTLINE, *LIPS, *INNER_LIPS, *LEFT_EYE, *RIGHT_EYE, *BROW_POINTS, *NOSE_POINTS, *SKIN)
# What stays where it is on the skull, whatever the face does: outer and inner corners of the eyes, bridge, temples.
STILL = (33, 133, 362, 263, 168, 6, 127, 356, 162, 389)
FIRST_LOOK = 1 / 1.1  # of the frame's side: the square in which a face is first looked for


class FaceMeshPoints(nn.Module):
    """Points of the one face of a frame: ``[B, 3, H, W]`` in [0, 1] -> ``[B, 468, 3]`` x, y and depth.

    A frame is cut closely about a face (``framing_params``): no detector is asked where it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mesh = FaceMesh()

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        side = frames.shape[-1]
        middle = frames.new_full((len(frames), 2), side / 2)
        square = Squares(middle, frames.new_full((len(frames),), side * FIRST_LOOK), frames.new_zeros(len(frames)))
        found = self.mesh.refine(frames, self.mesh(frames, square).points)
        points = found.points * (2 / side)
        return points - points.new_tensor([1.0, 1.0, 0.0])
