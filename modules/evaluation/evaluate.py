"""--mode evaluate: how well SID separates identity from expression and pose, and how true its pictures are.

Everything is measured on people of the synthetic face world that no training has seen, against exact truth.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import command_line
from ..config.sid import Config, EvaluateParams
from ..devices import best_device
from ..errors import UserError
from ..sid.inference import prepare_model
from ..sid.model import SID
from ..sid.motion_options import MotionOptions
from . import disentanglement, reenactment
from .bootstrap import Each, differences, intervals
from .disentanglement import Embed
from .judges.face_meter import FaceMeter, find_meter, fingerprint, load_meter
from .metrics import Figures
from .output import evaluation_folder, write_json
from .reenactment import Mode, RenderedPair
from .report import headline, tables, write_report
from .ruler import Ruler, calibrate

SHOWN_PAIRS = 8  # rows of the report's sheet
Rows = dict[str, list[Figures]]  # row of a table -> figures of every pair
Questions = list[tuple[str, str]]  # which row is set against which


def evaluate(config: Config, checkpoint: str | Path, cpu: bool = False) -> Path:
    """Measure a checkpoint; print tables, write ``metrics.json`` and ``report.html`` into ``evaluation/<its name>/``.

    Raises:
        UserError: frames are not square, or the measuring network or the ceiling is missing; the line names what to
            train.
    """
    params, (height, width) = config.evaluate_params, config.dataset_params.frame_shape[:2]
    if height != width:
        raise UserError(f"dataset_params.frame_shape: the face world is rendered square, found {height} x {width}")
    meter_file, ceiling = find_meter(params.meter), _ceiling(config)
    # renders and the little measuring network stay on the CPU, where their figures are the same on every machine
    model, meter = prepare_model(config.model_params, checkpoint, best_device(cpu)), load_meter(meter_file)
    ruler = calibrate(meter, height, params.people, params.frames)
    pairs = reenactment.render_pairs(height, params.pairs, params.clip_frames)
    figures: dict[str, Any] = {"measured": measured_by(params, meter_file, height), "meter": ruler.errors}
    each: dict[str, Each] = {}
    figures["differences"] = {}
    for title, (rows, questions) in _driven(model, pairs, ruler).items():
        figures[title] = {row: _means(values) for row, values in rows.items()}
        each[title] = {row: _columns(values) for row, values in rows.items()}
        figures["differences"][title] = differences(each[title], questions)
    if model.encoders is not None:
        embeds = {"model": embeddings_of(model)}
        if ceiling is not None:
            embeds["supervised ceiling"] = partial(_embed_ceiling, ceiling=ceiling)
        found = disentanglement.measure(embeds, height, params.people, params.frames, params.probe_people)
        figures["disentanglement"] = {who: known.figures for who, known in found.items()}
        figures["without spread"] = next(iter(found.values())).without_spread
        each |= {who: known.each for who, known in found.items()}
    figures |= {"intervals": {title: intervals(rows) for title, rows in each.items()}, "each": each}
    folder = evaluation_folder(checkpoint)
    write_json(folder / "metrics.json", figures)
    write_report(folder, figures, _sheet(model, pairs[:SHOWN_PAIRS]))
    print(tables(figures))
    print(f"\nmeasured against the face world's truth; figures, pictures and plots: '{folder / 'report.html'}'")
    print("not measured here: LPIPS; AKD, AED and CSIM are of real faces (--mode reconstruction, compare-real)")
    return folder


def measured_by(params: EvaluateParams, meter: Path, size: int) -> dict[str, Any]:
    """What two evaluations must have in common for their figures to be compared."""
    values = {name: value for name, value in asdict(params).items() if name not in ("meter", "ceiling")}
    return {"meter": fingerprint(meter), "size": size, **values}


def _driven(model: SID, pairs: list[RenderedPair], ruler: Ruler) -> dict[str, tuple[Rows, Questions]]:
    """Every mode with a clip as driver, the first mode with single pictures, and the answers that frame them.

    The first mode is set against the others and against no motion, one part alone against no motion.
    """
    first, *others = reenactment.modes(model)
    rows = {mode.name: reenactment.measure(model, mode, pairs, ruler) for mode in (first, *others)}
    rows[f"{first.name}, static driver"] = reenactment.measure(model, first, pairs, ruler, static=True)
    rows |= reenactment.trivial(pairs, ruler)
    found = {"reenactment": (rows, [(first.name, other) for other in (*(mode.name for mode in others), "no motion")])}
    if model.encoders is not None:
        found["parts"] = _parts(model, pairs, ruler)
    return found


def _parts(model: SID, pairs: list[RenderedPair], ruler: Ruler) -> tuple[Rows, Questions]:
    """--drive expression and --drive pose, each against the render in which only that part is the driver's."""
    rows, questions = {}, []
    for part in ("expression", "pose"):
        mode, still = Mode(f"--drive {part}", MotionOptions("embedding", drive=part)), f"no motion, {part} wanted"
        wanted = [reenactment.only(part, pair) for pair in pairs]
        rows[mode.name] = reenactment.measure(model, mode, wanted, ruler)
        rows[still] = reenactment.trivial(wanted, ruler)["no motion"]
        questions.append((mode.name, still))
    return rows, questions


def _means(rows: list[Figures]) -> Figures:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _columns(rows: list[Figures]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in headline(rows[0])}


def _ceiling(config: Config) -> FaceMeter | None:
    """The supervised ceiling: the model's own encoders, trained on the truth; None where none is configured."""
    path = config.evaluate_params.ceiling
    if path is None:
        return None
    command = f"{command_line('evaluation.meter')} --config <this configuration> --out {path}"
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; train it: {command}")
    ceiling = load_meter(path, of_model=True)
    own = config.model_params.encoder_params, config.dataset_params.frame_shape[0]
    if (ceiling.params, ceiling.size) != own:
        raise UserError(f"{path}: its encoders differ from the configuration's; train it again: {command}")
    return ceiling


def embeddings_of(model: SID) -> Embed:
    """z_id and z_sem of images, on the CPU, by the encoders, which it needs to have, of a model on any device."""
    device = next(model.parameters()).device

    def embed(images: Tensor) -> tuple[Tensor, Tensor]:
        images = images.to(device)
        return model.encoders.identity(images).cpu(), model.encoders.semantic(images).cat().cpu()

    return embed


def _embed_ceiling(images: Tensor, ceiling: FaceMeter) -> tuple[Tensor, Tensor]:
    return ceiling.identity(images), ceiling.semantic(images).cat()


def _sheet(model: SID, pairs: list[RenderedPair]) -> Tensor:
    """Rows of source | driver | truth | every mode, at each clip's last frame: ``[3, rows * H, columns * W]``."""
    ways = reenactment.modes(model)
    rows = []
    for pair in pairs:
        results = [reenactment.reenact(model, pair, mode)[-1] for mode in ways]
        rows.append(torch.cat([pair.source[0], pair.driving[-1], pair.truth.image[-1], *results], dim=2))
    return torch.cat(rows, dim=1)
