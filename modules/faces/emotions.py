"""Seven expressions of a face, by the small network of face-api."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .alignment import cut_squares, upright_square
from .frozen import FrozenNetwork, pad_same
from .mesh import LEFT_EYE, RIGHT_EYE

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
SIZE = 112  # pixels of the square that the network sees
ROOM = 0.9  # its side, in sides of the landmarks: it was trained on tight boxes
MEAN = (122.782, 117.001, 104.298)  # of red, green, blue, from 0 to 255


class Expressions(FrozenNetwork):
    """Four dense blocks of separable convolutions, trained on faces of photographs."""

    def __init__(self) -> None:
        super().__init__("faceapi_expression7.fp16")

    def forward(self, images: Tensor, landmarks: Tensor, owner: Tensor | None = None) -> Tensor:
        """Logits ``[N, 7]`` of :data:`EXPRESSIONS`.

        Args:
            images: [B, 3, H, W] in [0, 1].
            landmarks: [N, 468, 2 or 3] of the mesh, in pixels.
            owner: int64 [N], the picture of each face; None: one face per picture.
        """
        squares = upright_square(landmarks[..., :2], LEFT_EYE, RIGHT_EYE, ROOM)
        faces = cut_squares(images, squares.matrix(SIZE), SIZE, owner)
        x = faces - faces.new_tensor(MEAN).view(1, 3, 1, 1) / 255
        for block in range(4):
            x = self._block(x, f"dense.{block}", first=block == 0)
        x = F.avg_pool2d(x, 7).flatten(1)
        return F.linear(x, self.weight("fc.weight"), self.weight("fc.bias"))

    def _block(self, x: Tensor, name: str, first: bool) -> Tensor:
        """Each layer is shown the sum of those before it."""
        if first:
            total = F.relu(self.conv(pad_same(x, (3, 3), (2, 2)), f"{name}.conv0", 2, padding=0))
        else:
            total = F.relu(self._separable(x, f"{name}.conv0", 2))
        total = total + self._separable(total, f"{name}.conv1")
        total = total + self._separable(F.relu(total), f"{name}.conv2")
        return F.relu(total + self._separable(F.relu(total), f"{name}.conv3"))

    def _separable(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        x = self.conv(pad_same(x, (3, 3), (stride, stride)), f"{name}.depth", stride, padding=0)
        return self.conv(x, f"{name}.point")
