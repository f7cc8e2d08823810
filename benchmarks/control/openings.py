"""How exact --mouth and --eyes are."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from modules.config.files import load_rigged_config
from modules.evaluation.output import table
from modules.faces.landmarks68 import landmarks68
from modules.media.tensors import to_images, to_tensor
from modules.sid.framing import Framing
from modules.sid.motion_options import MotionOptions
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import load_rigged
from modules.sid.videos import DrivingVideo
from modules.world.control.options import Control
from modules.world.control.sliders import Slider
from modules.world.control.units import WIDE, lips_apart
from modules.world.parameters import Faces

from ..demo import CONFIG, WEIGHTS
from .people import DRIVERS, SIZE, calm_people, doing, rendered, write_sheet

AMOUNTS = (0.25, 0.5, 0.75, 1.0)
DRIVEN = 3  # frames of a driver for each opening that is asked for, whatever they do


def openings(count: int, sheet: Path | None) -> None:
    model, calm = load_rigged(WEIGHTS), calm_people(count)
    pictures = rendered(calm)
    frames = [frame.image for frame in islice(_driver().frames(), 60)][:: 60 // DRIVEN]
    asked, rows = (0.0, *AMOUNTS), []
    found: dict[str, list[list[float]]] = {"mouth": [], "eyes": []}
    for picture in tqdm(to_images(pictures), unit="person"):
        row = [picture]
        for name, measures in found.items():
            read = []
            for value in asked:
                options = MotionOptions(control=Control(**{name: value}), drive="expression")
                made = list(RiggedAnimator(model, picture, options).animate(frames))
                points = landmarks68(model.points(to_tensor(made)))
                read.append((lips_apart(points) / WIDE if name == "mouth" else _lids(points)).tolist())
                row.append(made[-1])
            measures.append(read)
        rows.append(np.concatenate(row, axis=1))
    mouths, eyes = (np.array(found[name]) for name in ("mouth", "eyes"))  # [people, asked, driven]
    truth = np.stack([_lids(landmarks68(model.points(rendered(_closing(calm, 1 - v))))).numpy() for v in asked], 1)
    span = (truth[:, -1] - truth[:, 0]).clip(min=1e-6)[:, None]
    share = (eyes - truth[:, :1, None]) / span[..., None]
    true_share = (truth - truth[:, :1]) / span
    cells = [
        _told("mouth, of wide open", mouths, np.broadcast_to(np.array(asked)[None], mouths.shape[:2]), asked),
        _told("eyes, of the truth's way", share, true_share, asked),
    ]
    head = ["opening", *(f"asked {v}" for v in asked), "error", "over drivers", "correlation"]
    print(table(head, cells))
    print(f"the truth's eyes by the same reading: {', '.join(f'{v:.2f}' for v in true_share.mean(0))}")
    write_sheet(sheet, rows)


def _told(name: str, found: np.ndarray, truth: np.ndarray, asked: tuple[float, ...]) -> list[str]:
    """A row of the table: ``found [people, asked, driven]`` beside ``truth [people, asked]``."""
    error = np.abs(found - truth[..., None]).mean()
    spread = found.std(axis=2).mean()
    wanted = np.broadcast_to(np.array(asked)[None, :, None], found.shape)
    together = np.corrcoef(wanted.ravel(), found.ravel())[0, 1]
    means = [f"{value:.2f}" for value in found.mean(axis=(0, 2))]
    return [name, *means, f"{error:.3f}", f"{spread:.3f}", f"{together:.3f}"]


def _lids(points: Tensor) -> Tensor:
    """How far lids are apart, in widths of the eyes, ``[B]``, of ``[B, 68, 2 or more]``."""
    gap = (points[:, [37, 38, 43, 44], :2] - points[:, [41, 40, 47, 46], :2]).norm(dim=-1).mean(dim=1)
    return gap / (points[:, [36, 42], :2] - points[:, [39, 45], :2]).norm(dim=-1).mean(dim=1)


def _closing(calm: Faces, share: float) -> Faces:
    return doing(calm, Slider("", {"AU43": 1}), share)


def _driver() -> DrivingVideo:
    params = load_rigged_config(CONFIG).framing_params
    return Framing((SIZE, SIZE), params=params, cpu=True).video(DRIVERS / "driver-1.mp4")
