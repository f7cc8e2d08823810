"""A calm face driven to the same person's real smile, by the fitted mesh and by rigged SID, on photographs of your own.

    python -m benchmarks.smiles FOLDER [--count 40] [--sheet pairs.png]

FOLDER holds two photographs a person, PERSON#neutral.jpg and PERSON#smile.jpg.  The smile drives the neutral
photograph; the result is compared with the smile itself, in the face and around the mouth, beside the neutral
photograph as it is and its best affine warp by the true landmarks.  Colours are matched over the face first.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity
from torch import Tensor
from tqdm import tqdm

from modules import media
from modules.arguments import Parser, number
from modules.errors import UserError, run_script
from modules.evaluation.bootstrap import difference
from modules.evaluation.output import table
from modules.media.tensors import to_images, to_tensor
from modules.sid.rigged.model import RiggedSID, load_rigged
from modules.world.puppets.fit import fit
from modules.world.puppets.photographs import Finder, cut, networks
from modules.world.puppets.puppet import make_puppets, polygon
from modules.world.puppets.render import render
from modules.world.puppets.states import States
from modules.world.puppets.warp import warped_heads

from .demo import WEIGHTS

SIDE, SIZE = 512, 256  # pixels of a photograph's side, and of what is compared
AROUND = 0.03  # of half a frame, about the lips: what counts as the mouth
WAYS = ("as it is", "affine", "mesh", "SID")
FIGURES = ("face PSNR", "face SSIM", "mouth PSNR", "mouth SSIM")


class Photograph(NamedTuple):
    image: Tensor  # [1, 3, SIDE, SIDE]
    landmarks: Tensor  # [68, 2] in [-1, 1]
    matte: Tensor  # [1, 1, SIDE, SIDE]


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="photographs PERSON#neutral.jpg and PERSON#smile.jpg")
    parser.add_argument("--count", type=number(int, 2, 10**6), default=10**6, help="people looked at")
    parser.add_argument(
        "--sheet", type=Path, help="picture to write: neutral, smile, affine, mesh, SID of eight people"
    )
    parser.add_argument("--checkpoint", help="of rigged SID (default: the bundled one)")
    args = parser.parse_args()
    pairs = [(p, p.with_name(p.name.replace("#neutral", "#smile"))) for p in sorted(args.folder.glob("*#neutral.*"))]
    pairs = [pair for pair in pairs if pair[1].is_file()][: args.count]
    if len(pairs) < 2:
        raise UserError(f"{args.folder}: holds no two pairs PERSON#neutral.jpg and PERSON#smile.jpg")
    find, model = networks(), load_rigged(args.checkpoint or WEIGHTS)
    rows: list[np.ndarray] = []
    figures: list[list[list[float]]] = []
    for neutral, smile in tqdm(pairs, unit="person"):
        photographs = [_read(path, find) for path in (neutral, smile)]
        if None in photographs:
            print(f"left out: no face is found in {neutral} or {smile}")
            continue
        real, answers, face, mouth = _answers(*photographs, model)
        figures.append([_compared(answer, real, face, mouth) for answer in answers])
        rows.append(np.concatenate([to_images(picture)[0] for picture in (answers[0], real, *answers[1:])], axis=1))
    if len(figures) < 2:
        raise UserError(f"{args.folder}: faces are found in no two pairs")
    each = np.array(figures)
    print(table(["", *FIGURES], [[way, *(f"{v:.3f}" for v in each[:, i].mean(0))] for i, way in enumerate(WAYS)]))
    for way in (2, 3):
        for column, name in enumerate(FIGURES):
            mine, theirs = each[:, way, column].tolist(), each[:, 1, column].tolist()
            apart, (low, high) = difference(mine, theirs)
            better = np.mean(np.array(mine) > np.array(theirs))
            told = f"{name}: {WAYS[way]} less affine {apart:+.3f} ({low:+.3f} to {high:+.3f})"
            print(f"{told}, better in {better:.0%} of {len(mine)}")
    if args.sheet is not None:
        media.write_image(args.sheet, np.concatenate(rows[:8]))


def _read(path: Path, find: Finder) -> Photograph | None:
    photo = to_tensor([media.read_image(path)])
    found = find(path.name, photo)
    return None if found is None else Photograph(*cut(photo, *found, SIDE))


def _answers(neutral: Photograph, smile: Photograph, model: RiggedSID) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    """The smile, what is made of the neutral photograph in each of WAYS, and where face and mouth are."""
    known = fit(neutral.landmarks[None])
    puppet = make_puppets(neutral.image, neutral.matte, known)
    read = fit(smile.landmarks[None], expressions=True, heads=warped_heads(known))
    drawn = render(puppet, States(read.units, puppet.gaze, read.pose), SIZE).image
    still, real = (F.interpolate(p.image, (SIZE, SIZE), mode="bilinear", antialias=True) for p in (neutral, smile))
    known_points = torch.cat([smile.landmarks, torch.ones(68, 1)], dim=1)
    theta = torch.linalg.lstsq(known_points, neutral.landmarks).solution.T[None]
    grid = F.affine_grid(theta, [1, 3, SIZE, SIZE], align_corners=True)
    affine = F.grid_sample(still, grid, align_corners=True, padding_mode="border")
    points = [model.points(picture) for picture in (still, real)]
    before, after = (model.encoder(*seen) for seen in zip((still, real), points, strict=True))
    learnt = model.generator(still, points[0], model.rig(points[0], before, after), before, after).image
    outline = torch.cat([smile.landmarks[:17], smile.landmarks[17:27].flip(0)])
    low, high = smile.landmarks[48:60].amin(0) - AROUND, smile.landmarks[48:60].amax(0) + AROUND
    box = torch.stack([low, torch.stack([high[0], low[1]]), high, torch.stack([low[0], high[1]])])
    return real, [still, affine, drawn, learnt], polygon(outline, SIZE), polygon(box, SIZE)


def _compared(answer: Tensor, real: Tensor, face: Tensor, mouth: Tensor) -> list[float]:
    gain = real[0][:, face].mean(1) / answer[0][:, face].mean(1)
    answer, real = (answer[0] * gain[:, None, None]).clamp(0, 1), real[0]
    _, alike = structural_similarity(answer.numpy(), real.numpy(), channel_axis=0, data_range=1, full=True)
    similar = torch.from_numpy(alike).mean(0)
    values = []
    for where in (face, mouth):
        values += [float(-10 * (answer - real)[:, where].square().mean().log10()), float(similar[where].mean())]
    return values


if __name__ == "__main__":
    run_script(main)
