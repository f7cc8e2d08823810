"""Motion transfer at inference: which key points and which condition a driving frame gives the source."""

from __future__ import annotations

import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from modules.sid.keypoints import Keypoints


def hull_area(value: Tensor) -> float:
    """Area of the convex hull of key points ``[1, K, 2]``."""
    return float(ConvexHull(value[0].detach().double().cpu().numpy()).volume)  # scipy calls a 2D hull's area volume


def normalize_keypoints(
    source: Keypoints,
    driving: Keypoints,
    driving_initial: Keypoints,
    *,
    adapt_scale: bool = False,
    relative_value: bool = True,
    relative_jacobian: bool = True,
) -> Keypoints:
    """FOMM's relative motion: what changed since the driver's first frame, applied to the source (FOMM eq. 12).

    Args:
        source, driving_initial: batch 1.
        driving: batch B.
        adapt_scale: multiply movements by the root of the ratio of the source's and driver's hull areas.
        relative_value, relative_jacobian: False takes the driver's own positions or jacobians.
    """
    value, jacobian = driving.value, driving.jacobian
    if relative_value:
        movement = driving.value - driving_initial.value
        if adapt_scale:
            movement = movement * (hull_area(source.value) / hull_area(driving_initial.value)) ** 0.5
        value = source.value + movement
    if relative_jacobian and jacobian is not None:
        jacobian = jacobian @ torch.inverse(driving_initial.jacobian) @ source.jacobian
    return Keypoints(value, jacobian)
