"""Faces in pictures and videos: found, cut out, followed.  The names that need no torch are here.

Landmarks, pose, matte, expression and identity: :mod:`.analysis` and the modules of their names.
"""

from .boxes import Box, Detection, iou
from .crops import INCREASE, crop_box, crop_image, cut, find_face, in_shape, main_face, video_box
from .detectors import DETECTORS, Detector, load_detector

__all__ = [
    "DETECTORS",
    "INCREASE",
    "Box",
    "Detection",
    "Detector",
    "crop_box",
    "crop_image",
    "cut",
    "find_face",
    "in_shape",
    "iou",
    "load_detector",
    "main_face",
    "video_box",
]
