"""What frames a way of moving takes.  Nothing heavy is imported here: mistakes are told at once."""

from __future__ import annotations

from ..config.rigged import RiggedConfig
from ..config.sid import Config, FramingParams

MESH_FRAMING = FramingParams(size=2.3)  # what a fitted head is driven by
POINT_FRAMES = (256, 256)  # size of frames in which points of a face are found


def frame_size(config: Config | RiggedConfig) -> tuple[int, int]:
    """Height and width of the frames that a configuration's model takes."""
    return POINT_FRAMES if isinstance(config, RiggedConfig) else config.dataset_params.frame_shape[:2]


def is_close(params: FramingParams | None, crop: bool | None) -> bool:
    """Whether faces are cut out by their landmarks; ``crop`` is the option, None where it is left out."""
    return params is not None and crop is not False
