"""Finding faces, and cutting out the square crops the models are trained on.

A face box is a square from the brows to the chin, about as wide as the face.  A crop is a larger square around it, in
whole pixels.  Images are uint8 ``[H, W, 3]`` RGB; boxes are in pixels of the full image.  Detectors are imported when
they are first asked for, since they bring scikit-image or torch with them.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from modules import media
from modules.errors import UserError

DETECTORS = ("auto", "face-alignment", "lbp")

# Room on each side of the face box, in face sizes.  In crops made in the way of VoxCeleb for FOMM the box takes 0.59 of
# the side (median), movement included; in published portrait crops 0.47.  0.4 gives 0.56 for a still face.
INCREASE = 0.4
LEAST_INCREASE = 0.2  # what is left of it before a picture is padded: the face takes 0.71
LIKELY = 0.75  # score of a face in a picture that was chosen for its face
TILTS = (0, 25, -25)  # degrees: cascades see upright heads


class Box(NamedTuple):
    """Left, top (inside) and right, bottom (outside) edges, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @classmethod
    def square(cls, x: float, y: float, side: float) -> Box:
        """The square of ``side`` around (x, y)."""
        return cls(x - side / 2, y - side / 2, x + side / 2, y + side / 2)


class Detection(NamedTuple):
    """A face box and how sure the detector is: from 1 a face, from 0.5 one if other frames agree."""

    box: Box
    score: float


class Detector(Protocol):
    """Called with an image and the smallest face side to look for (None: 1/12 of the longer side of the image)."""

    stride: int  # frames from one detection to the next when following a face: slow detectors skip some

    def __call__(self, image: np.ndarray, min_size: float | None = None, tilt: float = 0.0) -> list[Detection]: ...


def _intersection(a: Box, b: Box) -> float:
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(width, 0.0) * max(height, 0.0)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    shared = _intersection(a, b)
    return shared / (a.width * a.height + b.width * b.height - shared)


# Detectors


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
        if all(_intersection(box, k) < 0.5 * min(box.width, k.width) ** 2 for k, _ in kept):
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


# One face in an image or a video


def find_face(image: np.ndarray, detector: Detector) -> Box | None:
    """The box of the main face of ``image`` (large and central), or None.  The head may lean by some 35 degrees."""
    found: list[Detection] = []
    for tilt in TILTS:
        # One image has no neighbours to confirm it, but a picture somebody chose to crop does have a face.
        found += [d for d in detector(image, tilt=tilt) if d.score >= LIKELY]
        if any(d.score >= 2 for d in found):
            break  # beyond doubt; else a chance pattern must not win over a face that leans
    best = max((d.score for d in found), default=0)
    main = [d.box for d in found if d.score >= 0.5 * best]
    return max(main, key=lambda box: _prominence(box, image), default=None)


def _prominence(box: Box, image: np.ndarray) -> float:
    """Size of a face, in pixels, halved towards the corners of the image."""
    height, width = image.shape[:2]
    x, y = box.centre
    return box.width * (1 - 0.5 * math.hypot(x - width / 2, y - height / 2) / math.hypot(width / 2, height / 2))


def crop_box(box: Box, image_size: tuple[int, int], increase: float = INCREASE, face: float | None = None) -> Box:
    """The square crop, in whole and even pixels, that shows ``box`` and ``increase`` face sizes on each side of it.

    ``image_size`` is (width, height); ``face`` is the size of the face when ``box`` is the larger place it moves in.
    The square is moved inside the image, and where it is larger gives up some of its room.  Where the rest does not fit
    either, it sticks out and :func:`cut` pads it.
    """
    extent = max(box.width, box.height)
    side, least = (extent + 2 * room * (face or extent) for room in (increase, min(increase, LEAST_INCREASE)))
    side = max(2, 2 * round(max(min(side, min(image_size)), least) / 2))
    corner = []
    for middle, length in zip(box.centre, image_size, strict=True):
        low, high = sorted((0, length - side))
        corner.append(2 * math.floor(min(max(middle - side / 2, low), high) / 2))
    return Box(corner[0], corner[1], corner[0] + side, corner[1] + side)


def cut(image: np.ndarray, box: Box, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """The part of ``image`` in ``box`` (whole pixels), its edges repeated outside; resized to ``size`` if given.

    ``size`` is a side or (width, height), in pixels.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = map(int, box)
    rows = np.clip(np.arange(top, bottom), 0, height - 1)
    columns = np.clip(np.arange(left, right), 0, width - 1)
    part = image[rows[:, None], columns]
    if size is None:
        return part
    width, height = (size, size) if isinstance(size, int) else size
    return media.resize(part, height, width)


def crop_image(image: np.ndarray, detector: Detector, where: str = "the image") -> np.ndarray:
    """The square crop around the main face of ``image``.  UserError, with ``where``, when there is none."""
    face = find_face(image, detector)
    if face is None:
        raise _no_face(where)
    height, width = image.shape[:2]
    return cut(image, crop_box(face, (width, height)))


def video_box(path: str | Path, detector: Detector) -> Box:
    """One square crop for the whole video at ``path`` that covers the places its main face goes to.

    Looks at frames spread over the video, one at a time.  UserError when there is no face in them.
    """
    info = media.probe_video(path)
    count = len(info.times)
    samples = np.linspace(0, count - 1, min(count, max(8, min(48, round(2 * info.duration))))).round().astype(int)
    for tilt in TILTS:
        faces = []
        for index in samples:
            image = media.read_frames(path, [int(index)], info)[0]
            faces.append([d.box for d in detector(image, tilt=tilt) if d.score >= LIKELY])
        place = _main_place(faces, image)
        if place:
            edges = np.array(place)
            whole = Box(*edges[:, :2].min(axis=0), *edges[:, 2:].max(axis=0))
            face = float(np.median(edges[:, 2] - edges[:, 0]))
            return crop_box(whole, (info.width, info.height), face=face)
    raise _no_face(str(path))


def _main_place(faces: list[list[Box]], image: np.ndarray) -> list[Box]:
    """The boxes, of those found in each frame, that follow one face: the one that is seen most, large and central."""
    chains: list[list[Box]] = []
    for boxes in faces:
        for box in boxes:
            best = max(chains, key=lambda chain: iou(chain[-1], box), default=None)
            if best is not None and iou(best[-1], box) > 0.2:
                best.append(box)
            else:
                chains.append([box])
    return max(chains, key=lambda chain: sum(_prominence(box, image) for box in chain), default=[])


def _no_face(where: str) -> UserError:
    return UserError(f"no face found in {where}: choose one with a clear frontal face, or crop it by hand")
