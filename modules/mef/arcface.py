"""Face recognition by networks that see faces aligned by five points: the bundled one, or InsightFace's ``.onnx``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..devices import best_device
from ..errors import UserError
from ..faces.alignment import ARCFACE_SIZE, arcface_chips
from ..faces.analysis import load_analyser
from ..faces.landmarks68 import five_points
from ..faces.recognition import MobileFace
from ..media.tensors import to_tensor
from .checks import check_recognition

BUNDLED = "bundled"  # compound_params.face_recognition: no file


class Recognition(ABC):
    """Pictures -> embeddings of their main faces."""

    def __init__(self, cpu: bool = False):
        self._analyser = load_analyser(best_device(cpu))

    def __call__(self, pictures: Sequence[np.ndarray], names: Sequence[str]) -> Tensor:
        """uint8 ``[H, W, 3]`` pictures -> float32 ``[B, d]``.

        Raises:
            UserError: there is no face in one; ``names`` says in which.
        """
        return torch.cat(
            [self._embed(*self._found(picture, name)) for picture, name in zip(pictures, names, strict=True)]
        )

    def _found(self, picture: np.ndarray, name: str) -> tuple[Tensor, Tensor]:
        """A picture ``[1, 3, H, W]`` in [0, 1], and the five points of its main face ``[1, 5, 2]``."""
        found = self._analyser.analyse(picture)
        if not found:
            raise UserError(f"no face found in {name}: compound_params.face_recognition needs one")
        return to_tensor([picture]), five_points(found[0].landmarks)[None, :, :2].cpu()

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers in an embedding."""

    @abstractmethod
    def _embed(self, picture: Tensor, points: Tensor) -> Tensor:
        """``[1, d]``."""


def load_recognition(name: str, cpu: bool = False) -> Recognition:
    """What ``compound_params.face_recognition`` names.  Raises UserError as :class:`ArcFace` does."""
    return BundledRecognition(cpu) if name == BUNDLED else ArcFace(name, cpu)


class BundledRecognition(Recognition):
    """The bundled MobileFace, on the CPU, where it takes two milliseconds."""

    def __init__(self, cpu: bool = False):
        super().__init__(cpu)
        self._network = MobileFace().eval()

    @property
    def width(self) -> int:
        return 256

    @torch.no_grad()
    def _embed(self, picture: Tensor, points: Tensor) -> Tensor:
        return self._network(picture, points)


class ArcFace(Recognition):
    """InsightFace's networks.

    Args:
        path: the ``.onnx`` file, of a network that takes ``[1, 3, 112, 112]`` in [-1, 1].
        cpu: keep it and the detector off the GPU.

    Raises:
        UserError: the file or onnxruntime is missing, or the file is not readable.
    """

    def __init__(self, path: str, cpu: bool = False):
        super().__init__(cpu)
        check_recognition(path, "compound_params.face_recognition")
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

    @property
    def width(self) -> int:
        """Found by embedding grey."""
        return self._run(torch.zeros(1, 3, ARCFACE_SIZE, ARCFACE_SIZE)).shape[1]

    def aligned(self, picture: np.ndarray, name: str) -> Tensor:
        """The main face of a picture as the network expects it: ``[1, 3, 112, 112]`` in [0, 1]."""
        return arcface_chips(*self._found(picture, name))

    def _embed(self, picture: Tensor, points: Tensor) -> Tensor:
        return self._run(arcface_chips(picture, points) * 2 - 1)

    def _run(self, chip: Tensor) -> Tensor:
        # one at a time: many of these files fix the size of the batch
        return torch.from_numpy(self._session.run(None, {self._input: chip.numpy()})[0])
