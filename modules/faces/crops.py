"""Cutting out the square crops that models are trained on: of a picture, or one for a whole video.

A crop is a square around a face box, larger than it, in whole pixels.  Images are uint8 ``[H, W, 3]`` RGB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from .. import media
from ..errors import UserError
from .boxes import Box, Detection, iou
from .detectors import Detector

# Room on each side of the face box, in face sizes.  In crops made in the way of VoxCeleb for FOMM the box takes 0.59 of
# the side (median), movement included; in published portrait crops 0.47.  0.4 gives 0.56 for a still face.
INCREASE = 0.4
LEAST_INCREASE = 0.2  # what is left of it before a picture is padded: the face takes 0.71
LIKELY = 0.6  # score of a face in a picture that was chosen for its face


def find_face(image: np.ndarray, detector: Detector) -> Box | None:
    """The box of the main face of ``image`` (large and central), or None."""
    height, width = image.shape[:2]
    likely = [detection.box for detection in detector(image) if detection.score >= LIKELY]
    return max(likely, key=lambda box: prominence(box, (width, height)), default=None)


def prominence(box: Box, image_size: tuple[int, int]) -> float:
    """Size of a face, in pixels, halved towards the corners of an image of (width, height)."""
    width, height = image_size
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
    rows = slice(min(max(top, 0), height - 1), min(max(bottom, 1), height))
    columns = slice(min(max(left, 0), width - 1), min(max(right, 1), width))
    part = image[rows, columns]
    if part.shape[:2] != (bottom - top, right - left):
        sides = ((rows.start - top, bottom - rows.stop), (columns.start - left, right - columns.stop), (0, 0))
        part = np.pad(part, [(max(0, before), max(0, after)) for before, after in sides], mode="edge")
        part = part[: bottom - top, : right - left]  # of a box that is all outside more than it has been repeated
    if size is None:
        return np.ascontiguousarray(part)
    width, height = (size, size) if isinstance(size, int) else size
    return media.resize(part, height, width)


def in_shape(box: Box, shape: tuple[int, int]) -> Box:
    """``box`` and what is beside or above and below it, in the shape of (height, width); in whole pixels."""
    height, width = shape
    wider = max(0, round((box.height * width / height - box.width) / 2))
    taller = max(0, round((box.width * height / width - box.height) / 2))
    return Box(box.left - wider, box.top - taller, box.right + wider, box.bottom + taller)


def crop_image(
    image: np.ndarray, detector: Detector, where: str = "the image", shape: tuple[int, int] = (1, 1)
) -> np.ndarray:
    """The square crop around the main face of ``image``, and its surroundings :func:`in_shape`.

    UserError, with ``where``, when there is no face.
    """
    face = find_face(image, detector)
    if face is None:
        raise no_face(where)
    height, width = image.shape[:2]
    return cut(image, in_shape(crop_box(face, (width, height)), shape))


def video_box(path: str | Path, detector: Detector) -> Box:
    """One square crop for the whole video at ``path`` that covers the places its main face goes to.

    Looks at frames spread over the video, one at a time.  UserError when there is no face in them.
    """
    found: list[list[Detection]] = []
    for image in media.frames_throughout(path):
        found.append([detection for detection in detector(image) if detection.score >= LIKELY])
        size = image.shape[1], image.shape[0]
    edges = np.array([detection.box for detection in main_chain(found, size)])
    if not len(edges):
        raise no_face(path)
    whole = Box(*edges[:, :2].min(axis=0), *edges[:, 2:].max(axis=0))
    return crop_box(whole, size, face=float(np.median(edges[:, 2] - edges[:, 0])))


class Boxed(Protocol):
    """A face that has been found."""

    @property
    def box(self) -> Box: ...


F = TypeVar("F", bound=Boxed)


def main_chain(found: Iterable[Sequence[F]], image_size: tuple[int, int]) -> list[F]:
    """Of the faces found in each frame those of one person, who is seen most, large and central."""
    chains: list[list[F]] = []
    for faces in found:
        for face in faces:
            best = max(chains, key=lambda chain: iou(chain[-1].box, face.box), default=None)
            if best is not None and iou(best[-1].box, face.box) > 0.2:
                best.append(face)
            else:
                chains.append([face])
    return max(chains, key=lambda chain: sum(prominence(face.box, image_size) for face in chain), default=[])


def no_face(where: str | Path) -> UserError:
    return UserError(f"no face found in {where}: choose one with a clear face")
