"""Face detectors, imported when they are first asked for: they bring torch with them.

Images are uint8 ``[H, W, 3]`` RGB.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ..devices import best_device
from ..errors import UserError
from .boxes import Box, Detection

LEAST = 0.4  # score of what is handed on: a track takes it up (tracks.py)
DETECTORS = ("auto", "retinaface", "face-alignment")


class Detector(Protocol):
    """Called with an image and the smallest face side to look for (None: 1/12 of the longer side of the image)."""

    stride: int  # frames from one detection to the next when following a face: slow detectors skip some

    def __call__(self, image: np.ndarray, min_size: float | None = None) -> list[Detection]: ...


class RetinaFaceDetector:
    """RetinaFace, which comes with the project: all poses."""

    SMALLEST = 320 / 12  # pixels of the smallest face to look for, at the size that the network sees

    def __init__(self, cpu: bool = False) -> None:
        from .retinaface import RetinaFace

        self._device = best_device(cpu)
        self.stride = 1 if self._device.type == "cuda" else 5
        self._network = RetinaFace().to(self._device)

    def __call__(self, image: np.ndarray, min_size: float | None = None) -> list[Detection]:
        """Faces, surest first."""
        longer = max(image.shape[:2])
        min_size = min_size or longer / 12
        # Seen larger than it is only up to the usual size, and smaller never
        longest = max(320, min(longer, round(self.SMALLEST * longer / min_size)))
        return [detection for detection in self._look(image, longest) if detection.box.width >= min_size]

    def _look(self, image: np.ndarray, longest: int) -> list[Detection]:
        from ..media.tensors import to_tensor

        (found,) = self._network.detect(to_tensor([image], self._device), longest, LEAST)
        boxes = [Box.of_face(*box) for box in found.boxes.tolist()]
        return list(map(Detection, boxes, found.scores.tolist()))


class FaceAlignmentDetector:
    """The S3FD network of the face_alignment package: all poses; its weights (86 MB) are fetched at the first use."""

    LONGEST = 640  # pixels of the longer side it is shown at

    def __init__(self, cpu: bool = False) -> None:
        from face_alignment.detection.sfd import sfd_detector

        device = best_device(cpu).type
        self.stride = 1 if device == "cuda" else 5
        weights = _fetched(sfd_detector.models_urls["s3fd"])
        try:
            self._network = sfd_detector.SFDDetector(device, path_to_detector=str(weights))
        except Exception as error:  # what torch raises for a broken file depends on how it is broken
            raise OSError(f"{weights} is not what it should be, delete it: {type(error).__name__}") from error

    def __call__(self, image: np.ndarray, min_size: float | None = None) -> list[Detection]:
        """Faces, surest first."""
        height, width = image.shape[:2]
        scale = min(1.0, self.LONGEST / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        detections = []
        for found in self._network.detect_from_image(small):
            *edges, probability = map(float, found)
            box = Box.of_face(*(edge / scale for edge in edges))
            if box.width >= (min_size or max(height, width) / 12):
                detections.append(Detection(box, probability))
        return sorted(detections, key=lambda d: -d.score)


def _fetched(url: str) -> Path:
    """The file of ``url`` in torch's download folder, fetched if it is not there.  Raises OSError."""
    import socket

    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # without a network some systems would wait for minutes
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rsplit("-", 1)[1])
    except RuntimeError as error:  # the file came, but it is not the right one
        raise OSError(str(error)) from error
    finally:
        socket.setdefaulttimeout(patience)
    return path


@lru_cache(maxsize=4)
def load_detector(name: str = "auto", cpu: bool = False) -> Detector:
    """The detector called ``name``, one of :data:`DETECTORS`.  UserError when it cannot be had."""
    if name not in DETECTORS:
        raise UserError(f"unknown face detector {name!r}: choose one of {', '.join(DETECTORS)}")
    if name != "face-alignment":
        return RetinaFaceDetector(cpu)
    try:
        return FaceAlignmentDetector(cpu)
    except ImportError as error:
        reason, remedy = f"cannot be imported ({error})", "install it with `pip install face-alignment`"
    except OSError as error:
        reason, remedy = f"has no usable weights ({error})", "run it once with a network connection"
    raise UserError(f"the detector face-alignment {reason}: {remedy}, or use the detector retinaface")
