"""Expressions by name: are they what their words say, on rendered people and on photographs that SID moves?

    python -m benchmarks.emotions bank
    python -m benchmarks.emotions sid [--people 30] [--motion mesh] [--sheet sid.png]
    python -m benchmarks.emotions photographs --folder DIR [--motion mesh] [--sheet photographs.png]

``bank`` renders people who show each of the 135 words.  The judge names the basic expression of each, out of eight, by
a linear readout of the measuring network's z_exp (as in evaluation.portrait_figures), taught on other people who show
the face world's basic expressions.  Distances of action units are compared with those in the tree.  ``sid`` asks
bundled SID for the eight basic expressions on people whom nothing has seen, beside renders of them that do show these.
``photographs`` asks for seven on photographs of faces at rest, which the bundled network for photographs then names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor
from tqdm import tqdm

from modules import media
from modules.arguments import Parser, number
from modules.config.files import load_rigged_config
from modules.data import expression_pictures
from modules.data.expression_pictures import people_showing
from modules.devices import best_device
from modules.errors import UserError, run_script
from modules.evaluation.bootstrap import interval
from modules.evaluation.disentanglement import ridge
from modules.evaluation.judges.face_meter import find_meter, load_meter
from modules.evaluation.judges.face_reader import load_face_reader
from modules.evaluation.output import table
from modules.evaluation.people import MEASURING_SEED, PROBE_SEED, render_all
from modules.evaluation.portrait_figures import read
from modules.evaluation.portrait_tasks import CLASSES
from modules.faces.emotions import EXPRESSIONS as READ
from modules.media.tensors import to_images, to_tensor
from modules.sid import inference, named
from modules.sid.frames import MESH_FRAMING, POINT_FRAMES
from modules.sid.framing import Framing
from modules.sid.motion_options import MotionOptions
from modules.world import EXPRESSIONS, expression
from modules.world.emotions import emotions, find, tree_distance
from modules.world.showing import draw_shown, state_of

from .demo import CONFIG, WEIGHTS

TEACHERS, SIZE, WEAKEST = 400, 128, 0.5
SHOWN = 256  # pixels of pictures that SID moves
# what the bundled network names, in words of ours
NAMED = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "disgust": "disgusted",
    "surprise": "surprised",
}


# options of what is measured, and their values where they are left out
TAKEN: dict[str, dict[str, Any]] = {
    "bank": {"people": 3},
    "sid": {"people": 30, "motion": "rigged", "sheet": None},
    "photographs": {"folder": None, "motion": "rigged", "sheet": None},
}


class Judge:
    """Names the basic expression of pictures, out of eight."""

    def __init__(self, device: torch.device):
        self.meter, self.device = load_meter(find_meter(None)).to(device), device
        shown = torch.arange(TEACHERS) % len(CLASSES)
        strength = torch.linspace(WEAKEST, 1, TEACHERS // len(CLASSES)).repeat_interleave(len(CLASSES))
        units = torch.stack([expression(CLASSES[i]) for i in shown.tolist()]) * strength[:, None]
        faces = people_showing(units, torch.zeros_like(units), torch.zeros(TEACHERS, 2), PROBE_SEED)
        pictures = render_all(faces.to(device), SIZE, "rendering people to teach the judge")[0]
        self._known, self._classes = self._said(pictures), F.one_hot(shown, len(CLASSES)).double()

    def __call__(self, pictures: Tensor) -> list[str]:
        """The names for pictures in bytes, ``[N, 3, H, W]``."""
        scores = ridge(self._known, self._classes, 1, self._said(pictures.to(self.device)))
        return [CLASSES[i] for i in scores.argmax(dim=1).tolist()]

    def _said(self, pictures: Tensor) -> Tensor:
        return read(self.meter, pictures).z_exp.double().cpu()


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("what", choices=("bank", "sid", "photographs"), help="what to measure")
    add("--people", type=number(int, 1, 10**4), help="people of each word (default: bank 3, sid 30)")
    add("--folder", type=Path, help="photographs of faces at rest, one of a person")
    add("--motion", choices=("rigged", "mesh"), help="what moves photographs (default: rigged)")
    add("--sheet", type=Path, help="picture to write, of the first twelve people")
    add("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()
    taken = TAKEN[args.what]
    for name in ("people", "folder", "motion", "sheet"):
        if name not in taken and getattr(args, name) is not None:
            raise UserError(f"--{name}: has no meaning with {args.what}; leave it out")
    given = {name: default if getattr(args, name) is None else getattr(args, name) for name, default in taken.items()}
    if given.get("folder", ".") is None:
        raise UserError(f"--folder: is needed with {args.what}")
    {"bank": bank, "sid": on_people, "photographs": on_photographs}[args.what](device=best_device(args.cpu), **given)


def bank(people: int, device: torch.device) -> None:
    words = list(emotions().values())
    drawn = [draw_shown(word, people, MEASURING_SEED) for word in words]
    # one after the other, so that each word is shown by other people
    faces = people_showing(*(torch.cat(values) for values in zip(*drawn, strict=True)), seed=MEASURING_SEED)
    judge = Judge(device)
    said = judge(render_all(faces.to(device), SIZE, "rendering the bank")[0])
    meant = [word for word in words for _ in range(people)]
    right = [float(name == word.looks) for name, word in zip(said, meant, strict=True)]
    print(f"judge right on {len(right)} pictures of {len(words)} words: {_percent(right)}")
    rows = []
    for name in CLASSES[1:]:
        of = [i for i, word in enumerate(meant) if word.looks == name]
        rows.append([name, str(len(of)), f"{100 * np.mean([right[i] for i in of]):.0f}", _confused(said, of, name)])
    print(table(["looks like", "pictures", "right %", "else"], rows))
    for word in words:
        wrong = [name for name, one in zip(said, meant, strict=True) if one is word and name != word.looks]
        if 2 * len(wrong) > people:
            print(f"mostly wrong: {word.name} ({word.looks}): {', '.join(wrong)}")
    units = torch.stack([state_of([(word, 1.0)]).units.flatten() for word in words])
    one, other = np.triu_indices(len(words), 1)
    apart = torch.cdist(units, units)[one, other].numpy()
    steps = np.array([tree_distance(words[i], words[j]) for i, j in zip(one, other, strict=True)])
    print(f"rank correlation of distances of action units with those in the tree: {spearmanr(apart, steps)[0]:.2f}")
    means = [f"{apart[steps == k].mean():.2f} {where}" for k, where in enumerate(("group", "family", "families"), 1)]
    print(f"mean distance within a {means[0]}, within a {means[1]}, across {means[2]}")


def on_people(people: int, motion: str, sheet: Path | None, device: torch.device) -> None:
    nothing = torch.zeros(people, len(expression("neutral")))
    own = people_showing(nothing, nothing, torch.zeros(people, 2), MEASURING_SEED)
    judge, said = Judge(device), dict[str, list[str]]()
    names = [name for name in EXPRESSIONS for _ in range(people)]
    truth = []
    for name in EXPRESSIONS:
        state = state_of([(find(name), 1.0)]).faces()
        units, uneven = (values.expand(people, -1) for values in (state.action_units, state.asymmetry))
        faces = own._replace(action_units=units, asymmetry=uneven)
        truth.append(render_all(faces.to(device), SIZE, name)[0].cpu())
    said["renders"] = judge(torch.cat(truth))
    with TemporaryDirectory() as folder:
        files = []
        calm = render_all(own.to(device), SHOWN, "rendering the people")[0] / 255
        for i, picture in enumerate(to_images(calm)):
            files.append(Path(folder) / f"{i:03d}.png")
            media.write_image(files[-1], picture)
        results = np.stack([list(row) for row in moved(files, list(EXPRESSIONS), motion, device)], axis=1)
    said[motion] = judge(torch.cat([(to_tensor(list(row)) * 255).round().byte() for row in results]))
    said["as they are"] = judge(truth[0]) * len(EXPRESSIONS)
    _tell(said, names, people)
    _write(sheet, results, list(EXPRESSIONS))


def on_photographs(folder: Path, motion: str, sheet: Path | None, device: torch.device) -> None:
    files = sorted(path for path in folder.iterdir() if media.is_image(path))
    if not files:
        raise UserError(f"{folder}: holds no pictures")
    reader, shown = load_face_reader(device), list(NAMED)
    judged: list[list[int]] = []
    pictures = []
    for path, row in zip(files, moved(files, shown, motion, device), strict=True):
        whole = media.read_image(path)
        read = reader(to_tensor([whole, *row], device), identity=False).expressions
        judged.append(read.argmax(dim=1).tolist())
        pictures.append([media.fit(picture, SHOWN, SHOWN) for picture in row])
    names, words = [name for name in shown for _ in files], list(NAMED.values())
    by_word = [READ[row[1 + i]] for i in range(len(shown)) for row in judged]
    said = {motion: by_word, "as they are": [READ[row[0]] for row in judged] * len(shown)}
    said = {way: [shown[words.index(name)] for name in each] for way, each in said.items()}
    _tell(said, names, len(files))
    _write(sheet, np.stack([np.stack(row) for row in pictures], axis=1), shown)


def moved(files: list[Path], words: list[str], motion: str, device: torch.device) -> Iterator[list[np.ndarray]]:
    """Each photograph with the expression of each word, whole."""
    is_cpu, options = device.type == "cpu", MotionOptions()
    if motion == "mesh":
        params, animated = MESH_FRAMING, inference.by_mesh(options, is_cpu)
    else:
        config = load_rigged_config(CONFIG)
        params, animated = config.framing_params, inference.prepare(config, WEIGHTS, device)(options)
    framing = Framing(POINT_FRAMES, params=params, cpu=is_cpu)
    for path in tqdm(files, unit="photograph"):
        source = framing.source(path)
        animator, finish = animated(source), framing.finisher(source)
        codes = [named.code_of(animator, word, None, framing) for word in words]
        yield [finish(picture) for code in codes for picture in animator.show(code, [1.0])]


def _tell(said: dict[str, list[str]], names: list[str], people: int) -> None:
    rows = []
    for way, each in said.items():
        right = np.array([name == word for name, word in zip(each, names, strict=True)], float)
        rows.append(
            [way, _percent(right.reshape(-1, people).mean(0)), *(f"{100 * r:.0f}" for r in _each(right, people))]
        )
    print(table([f"{people} people, right %", "all (95 %)", *dict.fromkeys(names)], rows))
    way = list(said)[-2]
    for name in dict.fromkeys(names):
        print(f"{way}, {name}: {_confused(said[way], [i for i, one in enumerate(names) if one == name], name)}")


def _each(right: np.ndarray, people: int) -> list[float]:
    return right.reshape(-1, people).mean(1).tolist()


def _percent(right: np.ndarray | list[float]) -> str:
    low, high = interval([100 * value for value in right])
    return f"{100 * np.mean(right):.1f} ({low:.1f} to {high:.1f})"


def _confused(said: list[str], of: list[int], name: str) -> str:
    others = Counter(said[i] for i in of if said[i] != name)
    return ", ".join(f"{other} {count}" for other, count in others.most_common()) or "-"


def _write(out: Path | None, results: np.ndarray, words: list[str]) -> None:
    """``results [words, people, H, W, 3]``, a row for each word."""
    if out is not None:
        rows = [np.concatenate([media.resize(picture, 160, 160) for picture in row[:12]], axis=1) for row in results]
        media.write_image(out, expression_pictures.sheet(rows, words, columns=1))


if __name__ == "__main__":
    run_script(main)
