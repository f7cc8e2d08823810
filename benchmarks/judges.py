"""Can others name the face world's expressions, and tell its people? Sheets to show them, and their answers' score.

    python -m benchmarks.judges write --out judges
    python -m benchmarks.judges score --out judges --answers answers.json

``write`` draws expressions-*.png, 35 faces of seven basic expressions to be named, and gallery-*.png and probes-*.png,
20 people twice, to be matched: between the two everything but the person is drawn anew.  The truth goes to key.json,
which judges must not see.  answers.json: ``{"expressions": {"1": "anger", ...}, "people": {"1": "A", ...}}``.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from modules import media
from modules.arguments import Parser
from modules.errors import UserError, run_script
from modules.evaluation.output import write_json
from modules.world import ACTION_UNITS, Faces, render
from modules.world.draws import EXPRESSIONS, draw_expressions, draw_identities, draw_poses, draw_scenes, expression

SIZE = 256
NAMES = [name for name in EXPRESSIONS if name != "neutral"]
EACH, PEOPLE, COLUMNS = 5, 20, 5
FRONTAL = 0.2  # of the usual range of poses
LABEL = 24  # pixels above a picture


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("what", choices=("write", "score"), help="write the sheets, or score answers")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sheets")
    parser.add_argument("--answers", type=Path, help="for score: a JSON file of answers")
    parser.add_argument("--seed", type=int, default=771, help="seed of faces and order")
    args = parser.parse_args()
    if args.what == "write":
        write(args.out, args.seed)
    elif args.answers is None:
        raise UserError("score needs --answers")
    else:
        score(_read(args.out / "key.json"), _read(args.answers))


def write(out: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shown = rng.permutation(np.repeat(np.arange(len(NAMES)), EACH))
    units, nothing = torch.stack([expression(NAMES[i]) for i in shown]), torch.zeros(len(shown), len(ACTION_UNITS))
    people, gaze = draw_identities(len(shown), seed), torch.zeros(len(shown), 2)
    faces = _faces(people, units, nothing, gaze, seed)
    numbers = [str(i + 1) for i in range(len(shown))]
    _write_sheets(out, "expressions", faces, numbers)
    people, order = draw_identities(PEOPLE, seed + 1), rng.permutation(PEOPLE)
    letters, numbers_of_people = string.ascii_uppercase[:PEOPLE], numbers[:PEOPLE]
    for name, who, drawn, labels in (
        ("gallery", people, seed + 2, letters),
        ("probes", people[order], seed + 3, numbers_of_people),
    ):
        units, asymmetry, gaze = draw_expressions(PEOPLE, drawn)
        _write_sheets(out, name, _faces(who, 0.5 * units, asymmetry, 0.3 * gaze, drawn), labels)
    write_json(
        out / "key.json",
        {
            "expressions": {number: NAMES[i] for number, i in zip(numbers, shown, strict=True)},
            "people": {number: letters[i] for number, i in zip(numbers_of_people, order, strict=True)},
        },
    )


def score(key: dict[str, dict[str, str]], answers: dict[str, dict[str, str]]) -> None:
    for question, truth in key.items():
        given = answers.get(question, {})
        wrong = [f"{n}: {given.get(n)}, was {right}" for n, right in truth.items() if given.get(n) != right]
        print(f"{question}: {len(truth) - len(wrong)} of {len(truth)} right ({'; '.join(wrong) or 'all'})")


def _faces(people: Tensor, units: Tensor, asymmetry: Tensor, gaze: Tensor, seed: int) -> Faces:
    count = len(people)
    return Faces(people, units, asymmetry, gaze, draw_poses(count, seed, FRONTAL), draw_scenes(count, seed))


def _write_sheets(out: Path, name: str, faces: Faces, labels: Sequence[str]) -> None:
    """Ten pictures each, labelled: what a judge can look at closely."""
    at_once = 2 * COLUMNS
    for part, start in enumerate(range(0, faces.size, at_once), start=1):
        pictures = render(faces.take(slice(start, start + at_once)), SIZE).image
        sheet = Image.new("RGB", (COLUMNS * SIZE, 2 * (SIZE + LABEL)), "white")
        draw = ImageDraw.Draw(sheet)
        for i, picture in enumerate((pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()):
            x, y = i % COLUMNS * SIZE, i // COLUMNS * (SIZE + LABEL)
            draw.text((x + 8, y + 3), labels[start + i], fill="black", font_size=18)
            sheet.paste(Image.fromarray(picture), (x, y + LABEL))
        media.write_image(out / f"{name}-{part}.png", np.asarray(sheet))


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error


if __name__ == "__main__":
    run_script(main)
