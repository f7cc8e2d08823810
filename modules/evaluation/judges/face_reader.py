"""The bundled face networks as judges of real faces: landmarks, head pose, expression and identity of each frame.

Nothing here has trained SID or MEF.  What the networks themselves learnt from: ``Face_Checkpoints/README.md``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...faces.analysis import FaceAnalyser
from ...faces.emotions import EXPRESSIONS, Expressions
from ...faces.landmarks68 import landmarks68
from ...faces.recognition import FaceRes

AT_ONCE = 16  # frames read together: the networks see faces larger than small frames hold them
OUTER_CORNERS = (36, 45)  # of the eyes: 300-W's inter-ocular distance is between them
PARTS = ("mouth", "eyes", "brows")


class FaceReading(NamedTuple):
    """The main face of each of N frames, on the CPU; NaN where none is found.

    Attributes:
        found: bool [N].
        landmarks: [N, 68, 3] in iBUG's order: x, y and depth in pixels.
        pose: [N, 3] yaw, pitch, roll in degrees.
        expressions: [N, 7] probabilities of :data:`.faces.emotions.EXPRESSIONS`.
        identity: [N, 1024] of unit length; NaN everywhere where it was not asked for.
    """

    found: Tensor
    landmarks: Tensor
    pose: Tensor
    expressions: Tensor
    identity: Tensor

    def take(self, rows: slice) -> FaceReading:
        return FaceReading(*(values[rows] for values in self))

    def repeated(self, count: int) -> FaceReading:
        """The one frame ``count`` times."""
        return FaceReading(*(values.expand(count, *values.shape[1:]) for values in self))

    @property
    def eye_distance(self) -> Tensor:
        """``[N]`` pixels between the eyes' outer corners; with depth, so that it does not shrink as the head turns."""
        left, right = OUTER_CORNERS
        return (self.landmarks[:, left] - self.landmarks[:, right]).norm(dim=-1)

    @property
    def openings(self) -> Tensor:
        """How far mouth and eyes are open, and the brows above the eyes: ``[N, 3]``, in eye distances.

        The mouth between the inner lips (62 to 66), the eyes between their lids (the mean of four pairs), the brows
        from the middle of each to that of its eye's corners (the mean of both).
        """
        points = self.landmarks

        def apart(above: list[int], below: list[int]) -> Tensor:
            return (points[:, above] - points[:, below]).norm(dim=-1).mean(dim=1)

        brows = torch.stack([points[:, 17:22].mean(dim=1), points[:, 22:27].mean(dim=1)], dim=1)
        eyes = torch.stack([points[:, [36, 39]].mean(dim=1), points[:, [42, 45]].mean(dim=1)], dim=1)
        height = (brows - eyes).norm(dim=-1).mean(dim=1)
        lids = apart([37, 38, 43, 44], [41, 40, 47, 46])
        return torch.stack([apart([62], [66]), lids, height], dim=1) / self.eye_distance[:, None]


class FaceReader(nn.Module):
    """Detector, landmarks, pose, expressions and recognition, read once and called with batches of frames."""

    def __init__(self) -> None:
        super().__init__()
        self.analyser, self.expressions, self.recognition = FaceAnalyser(), Expressions(), FaceRes()

    @torch.no_grad()
    def forward(self, images: Tensor, where: Tensor | None = None, identity: bool = True) -> FaceReading:
        """Read frames ``[N, 3, H, W]`` in [0, 1].

        Args:
            images: the frames.
            where: bool [N], on the CPU: frames to look at; the others count as without a face.
            identity: whether to recognise the faces, which takes more time than all the rest.
        """
        count = len(images)
        reading = FaceReading(
            torch.zeros(count, dtype=torch.bool),
            torch.full((count, 68, 3), torch.nan),
            torch.full((count, 3), torch.nan),
            torch.full((count, len(EXPRESSIONS)), torch.nan),
            torch.full((count, 1024), torch.nan),
        )
        rows = torch.arange(count) if where is None else where.nonzero().squeeze(1)
        for part in rows.split(AT_ONCE) if len(rows) else ():
            self._read(images[part.to(images.device)], part, reading, identity)
        return reading

    def _read(self, images: Tensor, rows: Tensor, reading: FaceReading, identity: bool) -> None:
        """Fill in ``rows`` of a reading."""
        faces = [found[0] if found else None for found in self.analyser(images)]
        owner = torch.tensor([i for i, face in enumerate(faces) if face is not None], dtype=torch.long)
        if not len(owner):
            return
        seen = [face for face in faces if face is not None]
        rows = rows[owner]
        owner = owner.to(images.device)
        mesh = torch.stack([face.landmarks for face in seen])
        reading.found[rows] = True
        reading.landmarks[rows] = landmarks68(mesh).cpu()
        reading.pose[rows] = torch.stack([face.pose for face in seen]).cpu()
        reading.expressions[rows] = self.expressions(images, mesh, owner).softmax(dim=1).cpu()
        if identity:
            reading.identity[rows] = self.recognition(images, mesh, owner).cpu()


@lru_cache(maxsize=2)
def load_face_reader(device: torch.device) -> FaceReader:
    """The judges, on ``device``; their weights are read once."""
    return FaceReader().to(device).eval()
