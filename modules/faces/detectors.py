"""Face detectors, imported when they are first asked for: they bring scikit-image or torch with them.

Images are uint8 ``[H, W, 3]`` RGB.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ..errors import UserError
from .boxes import Box, Detection, intersection, iou

DETECTORS = ("auto", "face-alignment", "lbp")


class Detector(Protocol):
    """Called with an image and the smallest face side to look for (None: 1/12 of the longer side of the image)."""

    stride: int  # frames from one detection to the next when following a face: slow detectors skip some

    def __call__(self, image: np.ndarray, min_size: float | None = None, tilt: float = 0.0) -> list[Detection]: ...


class LbpDetector:
    """The frontal-face cascade that comes with scikit-image: offline, 0.15 s an image on one core, no profiles.

    The cascade answers to a face in many neighbouring windows and scales, and to a chance pattern in a few.  So all
    windows it accepts are collected, from the image and its mirror image, and a face is where enough of them agree.
    """

    stride = 5
    WINDOW = 20  # pixels: the smallest face in the reduced image; smaller ones get few votes
    VOTES = 8  # of a certain face.  Textures get up to 5, and 95 % of the frames of talking heads more than 10

    def __init__(self) -> None:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade

        self._cascade = Cascade(lbp_frontal_face_cascade_filename())

    def __call__(self, image: np.ndarray, min_size: float | None = None, tilt: float = 0.0) -> list[Detection]:
        """Faces, surest first.  ``tilt``: degrees to turn the image counterclockwise before looking."""
        height, width = image.shape[:2]
        scale = min(1.0, self.WINDOW / (min_size or max(height, width) / 12))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        grey = Image.fromarray(image).convert("L").resize(size, Image.Resampling.BILINEAR)
        if tilt:
            grey = grey.rotate(tilt, Image.Resampling.BILINEAR, fillcolor=128)
        windows = self._windows(np.asarray(grey))
        mirrored = self._windows(np.asarray(grey)[:, ::-1].copy())
        mirrored[:, 0] = size[0] - mirrored[:, 0]
        windows = np.concatenate([windows, mirrored])
        offset = windows[:, :2] - np.array(size) / 2
        cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
        windows[:, :2] = offset @ np.array([[cos, sin], [-sin, cos]]) + np.array(size) / 2  # undo the tilt
        found = _agreeing([Box.square(*window) for window in windows / scale])
        return [Detection(box, votes / self.VOTES) for box, votes in found]

    def _windows(self, grey: np.ndarray) -> np.ndarray:
        """Every window the cascade accepts in ``grey`` [H, W]: centre x, centre y, side; float64 [N, 3]."""
        if min(grey.shape) < self.WINDOW:
            return np.zeros((0, 3))
        found = self._cascade.detect_multi_scale(
            grey,
            scale_factor=1.15,
            step_ratio=1,
            min_size=(self.WINDOW, self.WINDOW),
            max_size=(min(grey.shape), min(grey.shape)),
            min_neighbor_number=1,
            intersection_score_threshold=2,  # above 1 nothing is merged: the windows themselves are wanted
        )
        rows = [(f["c"] + f["width"] / 2, f["r"] + f["height"] / 2, f["width"]) for f in found]
        return np.array(rows, dtype=float).reshape(-1, 3)


def _agreeing(boxes: list[Box]) -> list[tuple[Box, int]]:
    """Groups of boxes that cover the same place: (mean box, number of boxes), largest group first, overlaps dropped."""
    groups: list[list[Box]] = []
    means: list[Box] = []
    for box in sorted(boxes, key=lambda b: b.width):
        near = next((i for i, mean in enumerate(means) if iou(box, mean) > 0.4), None)
        if near is None:
            groups.append([box])
            means.append(box)
        else:
            groups[near].append(box)
            means[near] = Box(*np.mean(groups[near], axis=0))
    ranked = sorted(zip(means, map(len, groups), strict=True), key=lambda pair: -pair[1])
    kept: list[tuple[Box, int]] = []
    for box, votes in ranked:  # a weaker box over a stronger one is a part of the same face, or of its surroundings
        if all(intersection(box, k) < 0.5 * min(box.width, k.width) ** 2 for k, _ in kept):
            kept.append((box, votes))
    return kept


class FaceAlignmentDetector:
    """The S3FD network of the face_alignment package: all poses; its weights (86 MB) are fetched at the first use."""

    LONGEST = 640  # pixels of the longer side it is shown at

    def __init__(self, cpu: bool = False) -> None:
        import torch
        from face_alignment.detection.sfd import sfd_detector

        device = "cuda" if torch.cuda.is_available() and not cpu else "cpu"
        self.stride = 1 if device == "cuda" else 5
        weights = _fetched(sfd_detector.models_urls["s3fd"])
        try:
            self._network = sfd_detector.SFDDetector(device, path_to_detector=str(weights))
        except Exception as error:  # what torch raises for a broken file depends on how it is broken
            raise OSError(f"{weights} is not what it should be, delete it: {type(error).__name__}") from error

    def __call__(self, image: np.ndarray, min_size: float | None = None, tilt: float = 0.0) -> list[Detection]:
        """Faces, surest first; the network needs no help with tilted heads, so ``tilt`` is passed over."""
        height, width = image.shape[:2]
        scale = min(1.0, self.LONGEST / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        detections = []
        for found in self._network.detect_from_image(small):
            left, top, right, bottom, probability = map(float, found)
            # Its box reaches from the hair line to the chin, and narrows as the head turns.
            side = max(right - left, 0.75 * (bottom - top)) / scale
            if side >= (min_size or max(height, width) / 12):
                box = Box.square((left + right) / 2 / scale, (top + bottom) / 2 / scale, side)
                detections.append(Detection(box, probability / 0.8))
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
    if name == "lbp":
        return LbpDetector()
    try:
        return FaceAlignmentDetector(cpu)
    except ImportError as error:
        reason, remedy = f"cannot be imported ({error})", "install it with `pip install face-alignment`"
    except OSError as error:
        reason, remedy = f"has no usable weights ({error})", "run it once with a network connection"
    if name == "face-alignment":
        raise UserError(f"the detector face-alignment {reason}: {remedy}, or use the detector lbp")
    print(f"face-alignment {reason}: using the detector lbp instead", file=sys.stderr)
    return LbpDetector()
