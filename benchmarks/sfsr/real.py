"""Faces of real people swapped and reenacted, judged by the bundled face networks: there is no exact truth."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from modules import media
from modules.data.clips import identity_of
from modules.errors import UserError
from modules.evaluation.bootstrap import interval
from modules.evaluation.face_tasks import REENACT, SWAP, TASKS
from modules.evaluation.judges.face_reader import PARTS, FaceReading, load_face_reader
from modules.evaluation.output import table
from modules.evaluation.real_faces import pose_and_expression
from modules.media.tensors import to_tensor
from modules.mef.inference import load_pipeline
from modules.mef.options import PortraitOptions
from modules.mef.painter import FacePainter, Place, side_by_side
from modules.mef.target import GUIDANCE

SHOWN, SIDE = 8, 192  # rows of the sheet, and pixels of its pictures
LARGEST = 1024  # pixels of a photograph's longer side
AS_IT_IS = "target as it is"


class Photograph(NamedTuple):
    """A photograph of a person: its face's place, what SFSR reads of it, and what the judges do."""

    person: str
    place: Place
    identity: Tensor
    expression: Tensor
    reading: FaceReading


class Triple(NamedTuple):
    """Three people: who is wanted, who shows the expression, and whose picture it is."""

    source: Photograph
    reference: Photograph
    target: Photograph


def real(folder: Path, checkpoint: Path, pairs: int, steps: int, seed: int, sheet: Path | None) -> None:
    """Print the figures of ``pairs`` pictures for each task; see :func:`judged`."""
    pipeline = load_pipeline(str(checkpoint), cpu=True)
    painter = FacePainter(pipeline, PortraitOptions("", steps=steps, guidance_scale=GUIDANCE, seed=seed))
    reader = load_face_reader(torch.device("cpu"))
    photographs = read_photographs(folder, painter)
    triples = draw_triples(photographs, pairs, seed)
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    pictures = []
    for triple in tqdm(triples, unit="triple"):
        target = triple.target.place
        shown = [each.place.picture for each in triple]
        for task in TASKS:
            identity = None if task == REENACT else triple.source.identity
            expression = None if task == SWAP else triple.reference.expression
            (painted,) = painter.paint(target, identity, expression)
            result = target.pasted(painted, torch.device("cpu"))
            shown.append(result)
            rows[f"{task}, {AS_IT_IS}"].append(judged(triple, task, triple.target.reading, target.picture))
            rows[f"{task}, SFSR"].append(judged(triple, task, reader(to_tensor([result])), result))
        pictures.append(side_by_side(SIDE, *shown))
    _tell(rows, photographs, len(triples))
    if sheet is not None:
        media.write_image(sheet, np.concatenate(pictures[:SHOWN]))


def read_photographs(folder: Path, painter: FacePainter) -> list[Photograph]:
    """Those of a folder that SFSR can use; the others are named.  Raises UserError for fewer than three people."""
    if not folder.is_dir():
        raise UserError(f"--photographs {folder}: no such folder")
    reader, found = load_face_reader(torch.device("cpu")), []
    for path in sorted(path for path in folder.iterdir() if media.is_image(path)):
        picture = media.read_image(path)
        height, width = picture.shape[:2]
        scale = min(1.0, LARGEST / max(height, width))
        picture = media.resize(picture, round(scale * height), round(scale * width))
        try:
            place = painter.place(picture, path.name)
            identity, expression = painter.pipeline.embed(identity_image=picture, expression_image=picture)
        except UserError as error:
            print(f"left out: {error}")
            continue
        found.append(Photograph(identity_of(path.stem), place, identity, expression, reader(to_tensor([picture]))))
    if len({photograph.person for photograph in found}) < 3:
        raise UserError(f"--photographs {folder}: shows fewer than three people whose faces can be painted")
    return found


def draw_triples(photographs: list[Photograph], count: int, seed: int) -> list[Triple]:
    """``count`` of them, each of three people; every photograph's turn as the target comes round."""
    rng, triples = np.random.default_rng(seed), []
    order = rng.permutation(len(photographs))
    for i in range(count):
        three = [photographs[order[i % len(order)]]]
        while len(three) < 3:
            persons = {photograph.person for photograph in three}
            three.append(photographs[rng.choice([j for j, p in enumerate(photographs) if p.person not in persons])])
        triples.append(Triple(*reversed(three)))
    return triples


def judged(triple: Triple, task: str, result: FaceReading, picture: np.ndarray) -> dict[str, float]:
    """What the judges say of a result, uint8 ``[H, W, 3]``; where they find no face, that alone.

    - found %: 100 where a face is found
    - to source, to target: cosine of the identity embeddings of result and of the person in each photograph; the
      recogniser (FaceRes) has not trained SFSR
    - class %: 100 where the expression's class of seven is that of the photograph whose expression is wanted; L1: the
      sum of the absolute differences of their probabilities
    - mouth, eyes, brows: absolute difference of the openings from that photograph's, in eye distances
    - pose: mean absolute difference of yaw, pitch and roll from the target, degrees
    - outside: mean absolute difference from the target outside the oval, of 255
    """
    place, wanted = triple.target.place, triple.target if task == SWAP else triple.reference
    kept = (place.region.distance(*picture.shape[:2]) >= 1).numpy()
    outside = np.abs(picture.astype(float) - place.picture)[kept].mean()
    figures = {"found %": 100.0 * float(result.found), "outside": float(outside)}
    if not result.found.all():
        return figures
    expression, pose = (pose_and_expression(result, other.reading) for other in (wanted, triple.target))
    openings = (result.openings - wanted.reading.openings).abs()[0].tolist()
    return figures | {
        "to source": float((result.identity * triple.source.reading.identity).sum()),
        "to target": float((result.identity * triple.target.reading.identity).sum()),
        "class %": 100 * float(expression["expression"]),
        "L1": float(expression["expression L1"]),
        **dict(zip(PARTS, openings, strict=True)),
        "pose": float(pose["pose"]),
    }


def _tell(rows: dict[str, list[dict[str, float]]], photographs: list[Photograph], count: int) -> None:
    columns = list(dict.fromkeys(column for found in rows.values() for figures in found for column in figures))
    lines = []
    for row, found in rows.items():
        values = {column: [figures[column] for figures in found if column in figures] for column in columns}
        lines.append([row, *(_mean(values[column]) for column in columns)])
    people = len({photograph.person for photograph in photographs})
    print(f"{count} triples of {len(photographs)} photographs of {people} people; ±: 95 % of the mean")
    print(table(["", *columns], lines))
    same, different = _anchors(photographs)
    print(f"cosines of two photographs of one person: {_mean(same)}; of two people: {_mean(different)}")


def _mean(values: list[float]) -> str:
    if not values:
        return "-"
    low, high = interval(values)
    return f"{np.mean(values):.2f} ±{(high - low) / 2:.2f}"


def _anchors(photographs: list[Photograph]) -> tuple[list[float], list[float]]:
    """Cosines of pairs of photographs of one person, and of two."""
    same, different = [], []
    for i, one in enumerate(photographs):
        for other in photographs[:i]:
            cosine = float((one.reading.identity * other.reading.identity).sum())
            (same if one.person == other.person else different).append(cosine)
    return same, different
