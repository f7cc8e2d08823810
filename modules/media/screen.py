"""Decoded frames as pictures: turned by the display matrix, with square pixels, transparency over white."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from ..errors import UserError, cause

# swscale's fast paths round down, which darkens every picture by a level; this is exact on average.
# SWS_AREA | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP, which PyAV names from version 18 on.
EXACT = 0x20 | 0x40000 | 0x2000 | 0x4000
UNSPECIFIED = 2  # as a frame's colorspace, in ISO/IEC 23091-2's numbers


class Screen(NamedTuple):
    """How the frames of a video are shown."""

    width: int  # with square pixels, before rotation
    height: int
    matrix: np.ndarray  # int64 [2, 2], rows (a, b), (c, d): x' = a x + c y, y' = b x + d y, in pixels, y down
    converter: VideoReformatter  # of all frames: to make one anew takes as long as to convert a small frame
    threads: int  # of the converter; 0: as many as there are


def picture(path: str | Path, seconds: float, frame: av.VideoFrame, screen: Screen) -> np.ndarray:
    """The frame as displayed, ``uint8 [H, W, 3]``; what cannot be converted is one line."""
    try:
        return _as_displayed(frame, screen)
    except Exception as error:
        raise UserError(
            f"{path}: the frame at {seconds:.2f} s cannot be shown ({cause(error)}); convert the file to MP4"
        ) from None


def _as_displayed(frame: av.VideoFrame, screen: Screen) -> np.ndarray:
    """The frame's picture, ``uint8 [H, W, 3]``, upright."""
    width, height, matrix, converter, threads = screen
    has_alpha = any(component.is_alpha for component in frame.format.components) or frame.format.has_palette
    layout = "rgba" if has_alpha else "rgb24"
    # Video that does not name its matrix is taken for BT.709 by players where it is larger than standard definition.
    is_untagged_hd = frame.colorspace == UNSPECIFIED and (frame.width >= 1280 or frame.height > 576)
    matrix_of_yuv = Colorspace.ITU709 if is_untagged_hd else None
    converted = converter.reformat(frame, width, height, layout, matrix_of_yuv, interpolation=EXACT, threads=threads)
    image = converted.to_ndarray()
    if has_alpha:
        alpha = image[..., 3:].astype(np.uint16)
        image = ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    turned = abs(matrix[0, 0]) + abs(matrix[1, 1]) < abs(matrix[0, 1]) + abs(matrix[1, 0])
    if turned:
        image = image.transpose(1, 0, 2)
    mirror_x = (matrix[1, 0] if turned else matrix[0, 0]) < 0
    mirror_y = (matrix[0, 1] if turned else matrix[1, 1]) < 0
    return np.ascontiguousarray(image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def screen_of(stream: av.VideoStream, frame: av.VideoFrame, threads: int = 0) -> Screen:
    """Converted by ``threads``, 0 for all.

    Asked of the first frame only: ``side_data`` refers back to its frame, which then waits for the collector.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    matrix = np.eye(2) if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2]
    width = round(frame.width * (stream.sample_aspect_ratio or 1))
    return Screen(width, frame.height, matrix.astype(np.int64), VideoReformatter(), threads)
