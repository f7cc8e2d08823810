"""The only place that touches picture and video files; its public names are here.

An image is ``uint8 [H, W, 3]`` RGB, upright, as a viewer shows it.
"""

from .access import frames_throughout, read_frames, throughout
from .checks import check_inputs
from .image import (
    as_image,
    check_result,
    fit,
    from_jpeg,
    image_size,
    is_image,
    is_video,
    names_image,
    names_video,
    read_image,
    resize,
    to_jpeg,
    write_image,
)
from .video import Frame, VideoInfo, first_time, lead_in, probe_video, read_video
from .writer import VideoWriter

__all__ = [
    "Frame",
    "VideoInfo",
    "VideoWriter",
    "as_image",
    "check_inputs",
    "check_result",
    "first_time",
    "fit",
    "frames_throughout",
    "from_jpeg",
    "image_size",
    "is_image",
    "is_video",
    "lead_in",
    "names_image",
    "names_video",
    "probe_video",
    "read_frames",
    "read_image",
    "read_video",
    "resize",
    "throughout",
    "to_jpeg",
    "write_image",
]
