"""Reference pictures of expressions: people of the face world, rendered with what words mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from .. import media
from ..media.tensors import to_images
from ..world import Faces, draw_close_poses, draw_identities, draw_scenes, render
from ..world.emotions import Emotion
from ..world.parameters import set_category
from ..world.puppets.states import States
from ..world.showing import draw_shown

SEED = 4_000_037  # people of data sets, inputs and measurements have other seeds
SHEET = "sheet.png"  # a bank's overview
THUMBNAIL, LABEL = 96, 16  # pixels of a sheet's pictures, and of the words above them
EDGE = 0.2  # of a picture's side, which they lack on each side
EXTENT = 0.3  # of the usual turns of close faces: expressions are shown, not poses


def people_showing(units: Tensor, asymmetry: Tensor, gaze: Tensor, seed: int = SEED) -> Faces:
    """As many people as there are expressions, seen closely, without glasses or hats; person i depends on the seed."""
    count = len(units)
    scene = draw_scenes(count, seed)
    for name in ("glasses", "hat"):  # which hide what is to be seen
        scene = set_category(scene, name, "none")
    return Faces(draw_identities(count, seed), units, asymmetry, gaze, draw_close_poses(count, seed, EXTENT), scene)


def pictures_of_state(state: States, people: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """``[people, 3, size, size]`` in [0, 1]: people of the bank, all of whom show one state."""
    one = state.faces()
    same = (values.expand(people, -1) for values in (one.action_units, one.asymmetry, one.gaze))
    return render(people_showing(*same).to(device), size).image


def write_bank(
    out: Path, emotions: Sequence[Emotion], people: int, size: int, seed: int, device: torch.device | str
) -> None:
    """Write ``WORD/0000.png``, ..., one for each of ``people``, the same for every word, and a sheet of all."""
    rows = []
    for emotion in tqdm(emotions, desc=f"rendering {out}", unit="word"):
        faces = people_showing(*draw_shown(emotion, people, seed), seed=seed)
        pictures = to_images(render(faces.to(device), size).image)
        for i, picture in enumerate(pictures):
            media.write_image(out / emotion.name / f"{i:04d}.png", picture)
        rows.append(np.concatenate([_thumbnail(picture) for picture in pictures[:4]], axis=1))
    media.write_image(out / SHEET, sheet(rows, [f"{e.name} ({e.family})" for e in emotions]))


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    """The middle, which holds the face."""
    edge = round(EDGE * len(picture))
    return media.resize(picture[edge:-edge, edge:-edge], THUMBNAIL, THUMBNAIL)


def sheet(rows: Sequence[np.ndarray], labels: Sequence[str], columns: int = 5) -> np.ndarray:
    """Rows of pictures, uint8 ``[H, W, 3]`` each, with words above them, from the top down in ``columns``."""
    height, width = rows[0].shape[0] + LABEL, max(row.shape[1] for row in rows) + 8
    deep = -(-len(rows) // columns)
    page = Image.new("RGB", (min(columns, len(rows)) * width, deep * height), "white")
    draw = ImageDraw.Draw(page)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        x, y = i // deep * width, i % deep * height
        draw.text((x + 2, y + 1), label, fill="black", font_size=12)
        page.paste(Image.fromarray(row), (x, y + LABEL))
    return np.asarray(page)
