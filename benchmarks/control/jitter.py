"""How steady a result is: accelerations of landmarks, with and without smoothing."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from modules import media
from modules.config.files import load_rigged_config
from modules.errors import UserError
from modules.evaluation.output import table
from modules.faces.landmarks68 import landmarks68
from modules.media.tensors import to_tensor
from modules.sid import inference
from modules.sid.frames import MESH_FRAMING
from modules.sid.framing import Framing
from modules.sid.motion_options import MotionOptions
from modules.sid.rigged.model import RiggedSID, load_rigged
from modules.world.control.options import Control
from modules.world.control.units import lips_apart

from ..demo import CONFIG, WEIGHTS
from .people import PHOTOGRAPH, SIZE


def jitter(folder: Path, frames: int, motion: str) -> None:
    clips = sorted(path for path in folder.iterdir() if media.names_video(path))
    if not clips:
        raise UserError(f"{folder}: holds no videos")
    config, model = load_rigged_config(CONFIG), load_rigged(WEIGHTS)
    params = MESH_FRAMING if motion == "mesh" else config.framing_params
    framing = Framing((SIZE, SIZE), params=params, cpu=True)
    source, rows = framing.source(PHOTOGRAPH), []
    for clip in tqdm(clips, unit="clip"):
        video = framing.video(clip)
        seen = [frame.image for frame in islice(video.frames(), frames)]
        tracks = [points_of(model, seen)]
        for smooth in (False, True):
            options = MotionOptions(control=Control(smooth=smooth))
            by = inference.by_mesh(options, cpu=True) if motion == "mesh" else inference.by_rig(model, options)
            animator = by(source)
            animator.chain.start(float(video.info.frame_rate))
            animator.prepare(video.some())
            made = [media.fit(picture, SIZE, SIZE) for picture in animator.animate(seen)]
            tracks.append(points_of(model, made))
        rows.append([_acceleration(track) for track in tracks] + kept(*tracks[1:]))
    head = ["clip", "driver", "result", "with --smooth", "ratio", "mouth kept %", "lag, frames"]
    cells = [[c.stem, f"{a:.1f}", f"{b:.1f}", f"{s:.1f}", f"{s / b:.2f}", f"{100 * k:.0f}", f"{lag:.0f}"]
             for c, (a, b, s, k, lag) in zip(clips, rows, strict=True)]  # fmt: skip
    mean = np.mean(rows, axis=0)
    ratio = np.mean([row[2] / row[1] for row in rows])
    last = [
        f"mean of {len(clips)}",
        *(f"{v:.1f}" for v in mean[:3]),
        f"{ratio:.2f}",
        f"{100 * mean[3]:.0f}",
        f"{mean[4]:.1f}",
    ]
    print(table(head, [*cells, last]))


def points_of(model: RiggedSID, frames: Iterable[np.ndarray]) -> Tensor:
    """Landmarks ``[T, 68, 2]`` of close crops."""
    found = [landmarks68(model.points(to_tensor([frame]))) for frame in frames]
    return torch.cat(found)[..., :2]


def _acceleration(points: Tensor) -> float:
    """Mean acceleration of landmarks ``[T, 68, 2]``, in thousandths of the eyes' distance a frame squared."""
    eyes = (points[:, 36] - points[:, 45]).norm(dim=-1).mean()
    return float(1000 * points.diff(n=2, dim=0).norm(dim=-1).mean() / eyes)


def kept(plain: Tensor, smooth: Tensor) -> list[float]:
    """What share of the mouth's range over time smoothing keeps, and by how many frames it comes later."""
    a, b = lips_apart(plain).numpy(), lips_apart(smooth).numpy()
    share = np.ptp(np.percentile(b, (5, 95))) / np.ptp(np.percentile(a, (5, 95)))
    one, two = centred(plain), centred(smooth)
    lags = [float((one[: len(a) - lag] * two[lag:]).mean()) for lag in range(6)]
    return [float(share), float(np.argmax(lags))]


def centred(points: Tensor) -> Tensor:
    """Landmarks without their mean over time."""
    return points - points.mean(dim=0)
