"""Pictures of what SID does: pairs, key points, warp, prediction, occlusion, motion masks."""

from __future__ import annotations

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from skimage.draw import disk
from torch import Tensor

from ..config.sid import VisualizerParams
from ..errors import UserError
from .keypoints import Keypoints
from .step import Rendered

ROWS = 8  # of one picture; a batch of 100 would be unreadable


class Visualizer:
    """Draws sheets with one row per pair; see ``visualizer_params``."""

    def __init__(self, params: VisualizerParams):
        self.kp_size, self.draw_border = params.kp_size, params.draw_border
        if params.colormap not in matplotlib.colormaps:
            raise UserError(f"visualizer_params.colormap: matplotlib has no colormap called {params.colormap!r}")
        self.colormap = matplotlib.colormaps[params.colormap]

    def colours(self, count: int) -> np.ndarray:
        """``[count, 3]`` in [0, 1], one colour per key point."""
        return self.colormap(np.linspace(0, 1, count))[:, :3]

    def with_keypoints(self, images: Tensor, keypoints: Keypoints) -> Tensor:
        """``images [B, 3, H, W]`` with a disc at every key point."""
        drawn = images.permute(0, 2, 3, 1).numpy().copy()
        height, width = drawn.shape[1:3]
        radius = max(1.0, self.kp_size * height / 256)  # kp_size is meant for FOMM's 256 pixels
        for image, points in zip(drawn, keypoints.value.numpy(), strict=True):
            for (x, y), colour in zip(points, self.colours(len(points)), strict=True):
                centre = ((y + 1) / 2 * (height - 1), (x + 1) / 2 * (width - 1))
                image[disk(centre, radius, shape=(height, width))] = colour
        return torch.from_numpy(drawn).permute(0, 3, 1, 2)

    def sheet(self, rendered: Rendered) -> Tensor:
        """uint8 ``[H, W, 3]``: source, driving, warped source, prediction, occlusion, then each motion's mask."""

        def first(t: Tensor) -> Tensor:
            return t[:ROWS].detach().float().cpu()

        source, driving = first(rendered.source), first(rendered.driving)
        size = source.shape[2:]
        columns = [
            self.with_keypoints(source, rendered.kp_source.map(first)),
            self.with_keypoints(driving, rendered.kp_driving.map(first)),
        ]
        generated, motion = rendered.generated, rendered.generated.motion
        if motion is not None:
            columns.append(first(generated.deformed))
        columns.append(first(generated.prediction))
        if motion is not None and motion.occlusion is not None:
            columns.append(F.interpolate(first(motion.occlusion).expand(-1, 3, -1, -1), size=size))
        if motion is not None:
            masks = F.interpolate(first(motion.mask), size=size)
            colours = np.concatenate([np.ones((1, 3)), self.colours(masks.shape[1] - 1)])  # background white
            tint = torch.from_numpy(colours).float()[:, :, None, None]
            columns += [masks[:, i : i + 1] * tint[i] for i in range(masks.shape[1])]
        if self.draw_border:
            columns = [F.pad(column[:, :, 1:-1, 1:-1], (1, 1, 1, 1), value=1.0) for column in columns]
        rows = torch.cat(columns, dim=3)
        picture = torch.cat(list(rows), dim=1).clamp(0, 1)
        return (picture * 255).round().to(torch.uint8).permute(1, 2, 0)
