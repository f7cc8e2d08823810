"""Faces in pictures and videos: found, cut out, followed.  The public names are here."""

from .boxes import Box, Detection, iou
from .crops import INCREASE, crop_box, crop_image, cut, find_face, in_shape, video_box
from .detectors import DETECTORS, Detector, LbpDetector, load_detector

__all__ = [
    "DETECTORS",
    "INCREASE",
    "Box",
    "Detection",
    "Detector",
    "LbpDetector",
    "crop_box",
    "crop_image",
    "cut",
    "find_face",
    "in_shape",
    "iou",
    "load_detector",
    "video_box",
]
