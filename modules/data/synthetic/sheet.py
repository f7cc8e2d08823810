"""Sheets of faces to look at: plain, or with the face mask tinted and the landmarks drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ... import media
from ...arguments import Parser
from ...errors import run_script
from ...world.draws import draw_expressions, draw_identities, draw_poses, draw_scenes
from ...world.parameters import Faces
from ...world.rendering import Render, render

COLUMNS = 8
_TINT, _STRENGTH = np.array([0, 255, 0]), 0.35


def random_faces(n: int, seed: int, extent: float = 0.6) -> Faces:
    """``n`` unrelated faces; ``extent`` of their poses as in :func:`draw_poses`."""
    poses = draw_poses(n, seed, extent)
    return Faces(draw_identities(n, seed), *draw_expressions(n, seed), poses, draw_scenes(n, seed))


def write_sheet(
    path: str | Path, size: int = 128, seed: int = 0, count: int = 64, truth: bool = False, device: str = "cpu"
) -> None:
    """Write ``count`` random faces of ``size`` pixels as one picture; ``truth`` shows mask and landmarks too."""
    result = render(random_faces(count, seed).to(device), size)
    result = Render(*(value.cpu() for value in result))
    images = (result.image * 255).round().byte().permute(0, 2, 3, 1).numpy()
    if truth:
        images = np.stack([_with_truth(image, result, i) for i, image in enumerate(images)])
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, size, size, 3), np.uint8)
    sheet[:count] = images
    sheet = sheet.reshape(rows, COLUMNS, size, size, 3).swapaxes(1, 2).reshape(rows * size, COLUMNS * size, 3)
    media.write_image(path, sheet)


def _with_truth(image: np.ndarray, result: Render, index: int) -> np.ndarray:
    share = _STRENGTH * result.mask[index, 0].numpy()[..., None]
    picture = Image.fromarray((image * (1 - share) + _TINT * share).round().astype(np.uint8))
    draw, size = ImageDraw.Draw(picture), image.shape[0]
    for number, (x, y) in enumerate(((result.landmarks[index] + 1) / 2 * (size - 1)).tolist()):
        draw.ellipse([x - 1, y - 1, x + 1, y + 1], fill=(255, 255, 0) if number < 17 else (255, 0, 0))
    return np.asarray(picture)


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="picture to write")
    parser.add_argument("--truth", action="store_true", help="show mask and landmarks")
    parser.add_argument("--size", type=int, default=128, help="pixels per side of a face")
    parser.add_argument("--seed", type=int, default=0, help="seed of the faces")
    args = parser.parse_args()
    write_sheet(args.out, args.size, args.seed, truth=args.truth)


if __name__ == "__main__":
    run_script(main)
