"""--mode evaluate of MEF: the paper's table 3, from the face world's truth (DESIGN section 6)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modules.data.synthetic import CATEGORIES
from modules.errors import UserError
from modules.evaluation import portraits
from modules.evaluation.bootstrap import intervals
from modules.evaluation.meter import load_meter
from modules.evaluation.output import table, write_json
from modules.evaluation.portraits import WAYS, Drawn, Judge, WorldDistance
from modules.evaluation.report import Section, cells, plot, write_page
from modules.evaluation.ruler import calibrate
from modules.evaluation.world import PROBE_SEED
from modules.mef.config import load_mef_config
from modules.mef.inference import load_pipeline

SHOWN = 10  # portraits of the report's sheet
LEAST_PEOPLE = 16  # of whom the measuring network's own error is told
UNITS = "FD-world: Frechet distance in the measuring network's features; POSE in degrees, TIME in seconds a portrait"


def evaluate_mef(config_path: str, checkpoint: str, cpu: bool = False) -> Path:
    """Measure adapters on their base; write ``evaluation/`` beside them (``metrics.json``, ``report.html``).

    Args:
        checkpoint: a training checkpoint, a folder of adapters, or a hub id.

    Raises:
        UserError: the measuring network or the adapters are not there, or these were saved without SID's encoders.
    """
    config = load_mef_config(config_path)
    params, size, path = config.evaluate_params, config.dataset_params.resolution, config.evaluate_params.meter
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; train it: python -m modules.evaluation.meter --out {path}")
    pipeline = load_pipeline(checkpoint, cpu=cpu)
    if pipeline.embedder is None:
        raise UserError(f"{checkpoint}: these adapters were saved without SID's encoders")
    asked, meter = portraits.ask(params.people, params.expressions), load_meter(path)
    source, driver, truth = (
        portraits.rendered(faces, size, "rendering what is asked for")
        for faces in (asked.source, asked.driver, asked.truth)
    )
    drawn = {"render": Drawn(truth, 0.0), "render through the VAE": portraits.through_vae(pipeline, truth)}
    embeddings = portraits.embed(pipeline, asked, source, driver)
    pipeline.base.set_progress_bar_config(disable=True)
    drawn |= {way.name: portraits.draw(pipeline, way, asked, embeddings, params) for way in WAYS}

    ruler = calibrate(meter, size, max(LEAST_PEOPLE, params.people), params.expressions)
    taught = portraits.ask(portraits.TEACHERS, 1, PROBE_SEED)
    others = portraits.rendered(taught.truth, size, "rendering others")
    distance = WorldDistance(meter, others)
    known = (portraits.read(meter, images) for images in (source, truth, others))
    judge = Judge(ruler, asked, taught, *known)
    figures: dict[str, Any] = {"portraits": {}, "attributes": {}, "each": {}}
    for name, made in drawn.items():
        found, there = judge.each(portraits.read(meter, made.image))
        figures["portraits"][name] = portraits.summary(found, distance(made.image), made.seconds)
        figures["attributes"][name] = {attribute: float(values.nanmean()) for attribute, values in there.items()}
        figures["each"][name] = {figure: _by_person(values, params.expressions) for figure, values in found.items()}
    measured = asdict(params) | {"meter": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16], "size": size}
    figures |= {"measured": measured, "meter": ruler.errors, "intervals": intervals(figures["each"])}
    folder = Path(checkpoint).parent / "evaluation"
    _write(folder, figures, [source[asked.person], driver], drawn)
    return folder


def _write(folder: Path, figures: dict[str, Any], given: list[Tensor], drawn: dict[str, Drawn]) -> None:
    """The files and the screen; ``given`` are the photographs and the drivers of the portraits."""
    write_json(folder / "metrics.json", figures)
    sheet = _sheet([*given, *(made.image for made in drawn.values())]), f"photograph | driver | {' | '.join(drawn)}"
    parts = ["<h2>Attributes that the prompt names and the measuring network finds</h2>"]
    parts.append(plot(figures["attributes"], tuple(CATEGORIES)))
    write_page(folder, "MEF against the truth of the face world", _sections(figures), sheet, parts)
    for title, header, lines in _sections(figures):
        print(f"\n{title}\n{table(header, lines)}")
    print(f"\nmeasured against the face world's truth; figures, pictures and plots: '{folder / 'report.html'}'")
    print("not measured, for want of weights: FID")


def _by_person(values: Tensor, frames: int) -> list[float]:
    """Means over each person's portraits, of those people of whom there is something to say."""
    means = values.unflatten(0, (-1, frames)).nanmean(dim=1)
    return means[~means.isnan()].tolist()


def _sections(figures: dict[str, Any]) -> list[Section]:
    asked = f"{figures['measured']['people']} people never seen, {figures['measured']['expressions']} portraits of each"
    titles = {
        "portraits": f"portraits: {asked} ({UNITS})",
        "attributes": "share of the attributes named in the prompt that are there",
    }
    found = [(title, *cells(figures[name])) for name, title in titles.items()]
    own = {"measuring network": figures["meter"]["summary"]}
    return [*found, ("the measuring network's own error, on perfect pictures of unseen people", *cells(own))]


def _sheet(pictures: list[Tensor]) -> Tensor:
    """A row per portrait, ``[3, rows * H, columns * W]``."""
    rows = [torch.cat(list(row), dim=2) for row in zip(*(column[:SHOWN] for column in pictures), strict=True)]
    return torch.cat(rows, dim=1)
