"""All that is seen of the faces of a picture, in one call.

analyser = load_analyser(torch.device("cpu"))
for face in analyser.analyse(media.read_image("group.jpg")):
    print(face.box, face.pose)
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .boxes import Box
from .crops import prominence
from .landmarks68 import landmarks68
from .mesh import FaceMesh
from .pose import HeadPose
from .retinaface import LONGEST, SCORE, RetinaFace

FAR = 0.15  # of a face's extent, that it moves between two frames
PRESENT = 0.5  # the mesh's word that there is a face where the detector saw one


class Face(NamedTuple):
    """One face, in pixels of its picture; tensors on the device of the networks.

    Attributes:
        box: from the hair line to the chin.
        score: in [0, 1], the detector's.
        points: [5, 2] eyes, tip of the nose, corners of the mouth.
        landmarks: [468, 3] of the mesh: x, y and depth.
        landmarks68: [68, 2] in iBUG's order.
        pose: [3] yaw, pitch, roll in degrees (:class:`.pose.HeadPose`).
    """

    box: Box
    score: float
    points: Tensor
    landmarks: Tensor
    landmarks68: Tensor
    pose: Tensor


@lru_cache(maxsize=2)
def load_analyser(device: torch.device) -> FaceAnalyser:
    """The bundled networks on ``device``, read once."""
    return FaceAnalyser().to(device).eval()


class FaceAnalyser(nn.Module):
    """Detector, mesh and pose.

    Args:
        longest: pixels of the longer side at which faces are looked for; more finds smaller ones, and takes longer.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        super().__init__()
        self.longest = longest
        self.detector, self.mesh, self.pose = RetinaFace(), FaceMesh(), HeadPose()

    @property
    def device(self) -> torch.device:
        return next(self.detector.buffers()).device

    def analyse(self, image: np.ndarray) -> list[Face]:
        """The faces of a uint8 picture ``[H, W, 3]``, the main one (large and central) first."""
        return self(self._bytes(image))[0]

    @torch.no_grad()
    def again(self, image: np.ndarray, landmarks: Tensor) -> Tensor | None:
        """The landmarks ``[1, 468, 3]`` of the face that was at ``landmarks`` in the frame before; None: it is gone.

        One that has gone far is as well: it is at the edge of what is looked at, and badly read.
        """
        mesh = self.mesh.refine(self._bytes(image), landmarks)
        way = (mesh.points - landmarks)[0, :, :2].mean(0).norm()
        side = (landmarks.amax(1) - landmarks.amin(1))[0, :2].amax()
        return mesh.points if mesh.presence.item() >= PRESENT and way < FAR * side else None

    def _bytes(self, image: np.ndarray) -> Tensor:
        return torch.from_numpy(image[None].copy()).to(self.device).permute(0, 3, 1, 2)

    @torch.no_grad()
    def forward(self, images: Tensor, longest: int | None = None, least: float = SCORE) -> list[list[Face]]:
        """The faces of each of ``[B, 3, H, W]`` in [0, 1] or in bytes, the main one first.

        ``longest`` and ``least`` are those of :meth:`.retinaface.RetinaFace.detect`.
        """
        found = self.detector.detect(images, longest or self.longest, least)
        owner = [number for number, each in enumerate(found) for _ in each.scores]
        faces: list[list[Face]] = [[] for _ in found]
        if not owner:
            return faces
        boxes, scores, points = (torch.cat(values) for values in zip(*found, strict=True))
        mesh = self.mesh.from_points(images, boxes, points, torch.tensor(owner, device=images.device))
        short, poses = landmarks68(mesh.points)[..., :2], self.pose(mesh.points)
        for row, (number, box, score, presence) in enumerate(
            zip(owner, boxes.tolist(), scores.tolist(), mesh.presence.tolist(), strict=True)
        ):
            if presence >= PRESENT:
                face = Face(Box(*box), score, points[row], mesh.points[row], short[row], poses[row])
                faces[number].append(face)
        size = images.shape[3], images.shape[2]
        return [sorted(each, key=lambda face: -prominence(face.box, size)) for each in faces]
