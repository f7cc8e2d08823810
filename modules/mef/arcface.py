"""Face recognition by InsightFace's ``.onnx`` networks, which see faces aligned by five points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..devices import best_device
from ..errors import UserError
from ..faces.alignment import ARCFACE_SIZE, arcface_chips
from ..faces.analysis import load_analyser
from ..faces.landmarks68 import five_points
from ..media.tensors import to_tensor


class ArcFace:
    """Pictures -> embeddings of their main faces.

    Args:
        path: the ``.onnx`` file, of a network that takes ``[1, 3, 112, 112]`` in [-1, 1].
        cpu: keep it and the detector off the GPU.

    Raises:
        UserError: the file or onnxruntime is missing, or the file is not readable.
    """

    def __init__(self, path: str, cpu: bool = False):
        if not Path(path).is_file():
            raise UserError(f"compound_params.face_recognition: {path}: no such file")
        try:
            import onnxruntime
        except ImportError:
            raise UserError("compound_params.face_recognition needs onnxruntime: pip install onnxruntime") from None
        try:
            providers = ["CPUExecutionProvider"] if cpu else onnxruntime.get_available_providers()
            self._session = onnxruntime.InferenceSession(path, providers=providers)
        except Exception as error:  # onnxruntime's own exception types are not importable from one public place
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"compound_params.face_recognition: {path}: not a readable .onnx file ({reason})"
            ) from error
        self._input = self._session.get_inputs()[0].name
        self._analyser = load_analyser(best_device(cpu))

    @property
    def width(self) -> int:
        """Numbers in an embedding, found by embedding grey."""
        return self._embed(torch.zeros(1, 3, ARCFACE_SIZE, ARCFACE_SIZE)).shape[1]

    def __call__(self, pictures: Sequence[np.ndarray], names: Sequence[str]) -> Tensor:
        """uint8 ``[H, W, 3]`` pictures -> float32 ``[B, d]``.

        Raises:
            UserError: there is no face in one; ``names`` says in which.
        """
        chips = [self.aligned(picture, name) for picture, name in zip(pictures, names, strict=True)]
        return self._embed(torch.cat(chips) * 2 - 1)

    def aligned(self, picture: np.ndarray, name: str) -> Tensor:
        """The main face of a picture as the network expects it: ``[1, 3, 112, 112]`` in [0, 1]."""
        found = self._analyser.analyse(picture)
        if not found:
            raise UserError(f"no face found in {name}: compound_params.face_recognition needs one")
        points = five_points(found[0].landmarks)[None, :, :2].cpu()
        return arcface_chips(to_tensor([picture]), points)

    def _embed(self, chips: Tensor) -> Tensor:
        # one at a time: many of these files fix the size of the batch
        results = [self._session.run(None, {self._input: chip[None].numpy()})[0] for chip in chips]
        return torch.from_numpy(np.concatenate(results))
