"""A detector that also reads the landmarks of what it finds: close crops go by them."""

from __future__ import annotations

import numpy as np

from ..media.tensors import to_tensor
from .analysis import load_analyser
from .boxes import Box, Detection
from .detectors import LEAST, RetinaFaceDetector


class LandmarkDetector(RetinaFaceDetector):
    """RetinaFace, and the 68 landmarks.

    Args:
        every: look at every frame, which is slow on a CPU.
    """

    def __init__(self, cpu: bool = False, every: bool = False) -> None:
        super().__init__(cpu)
        self._analyser = load_analyser(self._device)
        if every:
            self.stride = 1

    def _look(self, image: np.ndarray, longest: int) -> list[Detection]:
        (found,) = self._analyser(to_tensor([image], self._device), longest, LEAST)
        return [Detection(Box.of_face(*face.box), face.score, face.landmarks68.cpu().numpy()) for face in found]
