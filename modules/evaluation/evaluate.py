"""--mode evaluate: how well SID tells identity from expression and pose, and how true its pictures are (DESIGN sec. 6).

Everything is measured on people of the synthetic face world that no training has seen, against exact truth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modules.config import Config
from modules.data.synthetic import ACTION_UNITS
from modules.errors import UserError
from modules.evaluation import disentanglement, reenactment
from modules.evaluation.meter import FaceMeter, load_meter
from modules.evaluation.metrics import Figures
from modules.evaluation.output import table, write_json
from modules.evaluation.reenactment import Mode, Rendered
from modules.evaluation.report import write_report
from modules.sid.inference import best_device, prepare_model
from modules.sid.model import SID
from modules.sid.motion import MotionOptions

SHOWN_PAIRS = 8  # rows of the report's sheet


def evaluate(config: Config, checkpoint: str | Path, cpu: bool = False) -> Path:
    """Measure a checkpoint; write ``evaluation/`` beside it (``metrics.json``, ``report.html``) and print tables.

    Raises:
        UserError: frames are not square, or the measuring network is missing; the line names what to train.
    """
    params, (height, width) = config.evaluate_params, config.dataset_params.frame_shape[:2]
    if height != width:
        raise UserError(f"dataset_params.frame_shape: the face world is rendered square, found {height} x {width}")
    for path, option in ((params.meter, ""), (params.ceiling, " --config <this configuration>")):
        if path is not None and not Path(path).is_file():
            raise UserError(f"{path}: no such file; train it: python -m modules.evaluation.meter --out {path}{option}")
    # renders and the little measuring network stay on the CPU, where their figures are the same on every machine
    model, meter = prepare_model(config.model_params, checkpoint, best_device(cpu)), load_meter(params.meter)
    pairs = reenactment.render_pairs(height, params.pairs, params.clip_frames)
    figures: dict[str, Any] = {"reenactment": _reenactment(model, pairs, meter)}
    if model.encoders is not None:
        figures["parts"] = _parts(model, pairs, meter)
        figures["disentanglement"] = _disentanglement(model, config, height)
    folder = Path(checkpoint).parent / "evaluation"
    write_json(folder / "metrics.json", figures)
    write_report(folder, figures, _sheet(model, pairs[:SHOWN_PAIRS]))
    print(tables(figures))
    print(f"\nmeasured against the face world's truth; figures, pictures and plots: '{folder / 'report.html'}'")
    print("not measured, for want of weights: LPIPS, AKD, AED, and CSIM of a face recognition network")
    return folder


def _reenactment(model: SID, pairs: list[Rendered], meter: FaceMeter) -> dict[str, Figures]:
    """Every mode with a clip as driver, the first mode with single pictures, and the answers that frame them."""
    ways = reenactment.modes(model)
    rows = {mode.name: reenactment.measure(model, mode, pairs, meter) for mode in ways}
    rows[f"{ways[0].name}, static driver"] = reenactment.measure(model, ways[0], pairs, meter, static=True)
    return rows | reenactment.trivial(pairs, meter)


def _parts(model: SID, pairs: list[Rendered], meter: FaceMeter) -> dict[str, Figures]:
    """--drive expression and --drive pose, each against the render in which only that part is the driver's."""
    rows = {}
    for part in ("expression", "pose"):
        mode = Mode(f"--drive {part}", MotionOptions("embedding", drive=part))
        rows[mode.name] = reenactment.measure(model, mode, [reenactment.only(part, pair) for pair in pairs], meter)
        still = reenactment.trivial([reenactment.only(part, pair) for pair in pairs], meter)["no motion"]
        rows[f"no motion, {part} wanted"] = still
    return rows


def _disentanglement(model: SID, config: Config, size: int) -> dict[str, dict[str, Figures]]:
    params = config.evaluate_params

    def embed(images: Tensor) -> tuple[Tensor, Tensor]:
        images = images.to(next(model.parameters()).device)
        return model.encoders.identity(images).cpu(), model.encoders.semantic(images).cat().cpu()

    found = {"model": disentanglement.measure(embed, size, params.people, params.frames)}
    if params.ceiling is not None:
        ceiling = load_meter(params.ceiling)

        def embed_ceiling(images: Tensor) -> tuple[Tensor, Tensor]:
            return ceiling.identity(images), ceiling.semantic(images).cat()

        found["supervised ceiling"] = disentanglement.measure(embed_ceiling, size, params.people, params.frames)
    return found


def _sheet(model: SID, pairs: list[Rendered]) -> Tensor:
    """Rows of source | driver | truth | every mode, at each clip's last frame: ``[3, rows * H, columns * W]``."""
    ways = reenactment.modes(model)
    rows = []
    for pair in pairs:
        results = [reenactment.reenact(model, pair, mode)[-1] for mode in ways]
        rows.append(torch.cat([pair.source[0], pair.driving[-1], pair.truth.image[-1], *results], dim=2))
    return torch.cat(rows, dim=1)


def tables(figures: dict[str, Any]) -> str:
    """What is printed: one table for pictures, one for embeddings."""
    lines = []
    for title in ("reenactment", "parts"):
        if title in figures:
            lines += ["", f"{title}, means over pairs", table(*_rows(figures[title]))]
    for who, found in figures.get("disentanglement", {}).items():
        shown = {name: {k: v for k, v in row.items() if k not in ACTION_UNITS} for name, row in found.items()}
        lines += ["", f"{who}: rank-1 retrieval, and R2 of linear probes on unseen people", table(*_rows(shown))]
    return "\n".join(lines)


def _rows(figures: dict[str, Figures]) -> tuple[list[str], list[list[str]]]:
    columns = list(next(iter(figures.values())))
    return ["", *columns], [[name, *(f"{row[column]:.3f}" for column in columns)] for name, row in figures.items()]
