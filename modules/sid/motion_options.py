"""How a driver is to move a source.  Nothing heavy is imported here: mistakes are told at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..errors import UserError
from ..world.control.options import Control


@dataclass(frozen=True)
class MotionOptions:
    """How a driver moves a source."""

    motion: Literal["embedding", "keypoints"] | None = None  # None: embedding with encoders, FOMM's key points without
    drive: Literal["both", "expression", "pose"] = "both"  # what is taken from the driver; needs embedding motion
    relative: bool = False  # transfer the change since the driver's first (or best) frame, not its absolute state
    adapt_scale: bool = False  # relative key points: scale movements by the ratio of face sizes
    relative_jacobian: bool | None = None  # relative key points: jacobians likewise; None: as ``relative``
    other_pose: bool = False  # the pose comes from a second driver; needs embedding motion
    strength: float = 1.0  # 0 leaves the source as it is, 1 transfers all, more exaggerates
    control: Control = field(default_factory=Control)  # regions, openings, edits, smoothing

    def check_strength(self) -> None:
        """UserError where it is no number from 0 up."""
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise UserError(f"--strength: expected a number of 0 or more, found {self.strength}")

    def resolved(self, has_encoders: bool) -> Literal["embedding", "keypoints"]:
        """The motion in effect for a model with or without encoders.  Raises UserError where they cannot be had."""
        self.check_strength()
        motion = self.motion or ("embedding" if has_encoders else "keypoints")
        if motion == "embedding" and not has_encoders:
            raise UserError("--motion embedding needs a model with encoders; use --motion keypoints with this one")
        if motion == "keypoints" and self.drive != "both":
            raise UserError(f"--drive {self.drive} needs --motion embedding: key points mix expression and pose")
        if motion == "keypoints" and self.other_pose:
            raise UserError("--pose_video needs --motion embedding: key points mix expression and pose")
        if motion == "keypoints" and self.control != Control():
            raise UserError(f"--{self.control.first} needs --motion embedding or mesh: key points mix all a face does")
        return motion
