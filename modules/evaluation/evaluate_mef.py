"""--mode evaluate of MEF: the paper's table 3, from the face world's truth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config.files import load_mef_config
from ..config.mef import MEFConfig
from ..errors import UserError
from ..mef.inference import load_pipeline
from ..mef.pipeline import DeepExprPipeline
from ..world import CATEGORIES
from . import portrait_figures as figures_of
from . import portrait_tasks as portraits
from .amplitudes import read_amplitudes
from .bootstrap import intervals
from .judges.face_meter import find_meter, fingerprint, load_meter
from .output import evaluation_folder, table, write_json
from .people import PROBE_SEED, render_all
from .portrait_tasks import WAYS, Drawn
from .report import METER_TITLE, Section, cells, plot, write_page
from .ruler import calibrate

SHOWN = 10  # portraits of the report's sheet
LEAST_PEOPLE = 16  # fewest people to report the measuring network's own error on
TEACHERS = 600  # renders of others: they teach the classifier of expressions, and FD-world is the distance to them
TITLE, UNITS = "portraits", "POSE: median over portraits, degrees; TIME: seconds a portrait, drawn eight at a time"


def evaluate_mef(config_path: str, checkpoint: str, cpu: bool = False) -> Path:
    """Measure adapters on their base; write ``metrics.json`` and ``report.html`` into ``evaluation/<their folder>/``.

    Args:
        checkpoint: a training checkpoint, or a folder of adapters.

    Raises:
        UserError: the measuring network or the adapters are not there, or these cannot be measured so.
    """
    config = load_mef_config(config_path)
    params, size = config.evaluate_params, config.dataset_params.resolution
    path = find_meter(params.meter)
    pipeline = _load(config, checkpoint, cpu)
    asked, meter = portraits.ask(params.people, params.expressions, close=params.close), load_meter(path)
    taught = portraits.ask(TEACHERS, 1, PROBE_SEED, params.close)
    source, driver, truth, others = (
        render_all(faces, size, "rendering what is asked for")[0]
        for faces in (asked.source, asked.driver, asked.truth, taught.truth)
    )
    ruler = calibrate(meter, size, max(LEAST_PEOPLE, params.people), params.expressions)
    *readings, beside = (figures_of.read(meter, images) for images in (source, truth, others, driver))
    judge = figures_of.Judge(ruler, asked, taught, *readings, [beside])
    asked_amplitudes = read_amplitudes(truth)
    distance = figures_of.WorldDistance(meter, others, readings[-1])

    drawn = {"render": Drawn(truth), "render through the VAE": portraits.through_vae(pipeline, truth)}
    embeddings = portraits.embed(pipeline, asked, source, driver)
    pipeline.base.set_progress_bar_config(disable=True)
    drawn |= {way.name: portraits.draw(pipeline, way, asked, embeddings, size, params) for way in WAYS}
    rows, attributes, each = {}, {}, {}
    for name, made in drawn.items():
        found, there = judge.each(figures_of.read(meter, made.image))
        found["LMS"] = (read_amplitudes(made.image) - asked_amplitudes).abs().mean(dim=1)
        rows[name] = figures_of.summary(found, distance(made.image), made.seconds)
        shares = {attribute: float(values.nanmean()) for attribute, values in there.items()}
        attributes[name] = {attribute: share for attribute, share in shares.items() if share == share}  # nan is not
        each[name] = {figure: _by_person(values, params.expressions) for figure, values in found.items()}
        if found["LMS"].isnan().any():  # faces were not found: others would be compared than in other rows
            del each[name]["LMS"]
    figures: dict[str, Any] = {
        "measured": asdict(params) | {"meter": fingerprint(path), "size": size},
        "base": asdict(pipeline.base_params),
        "meter": ruler.errors,
        TITLE: rows,
        "attributes": attributes,
        "intervals": {TITLE: intervals(each)},
        "each": {TITLE: each},
    }
    folder = evaluation_folder(checkpoint)
    _write(folder, figures, [source[asked.person], driver, *(made.image for made in drawn.values())])
    return folder


def _load(config: MEFConfig, checkpoint: str, cpu: bool) -> DeepExprPipeline:
    """The adapters on the base they were trained with, which must be the configuration's."""
    pipeline, base = load_measured(checkpoint, cpu), config.model_params.base_params.path
    if Path(pipeline.base_params.path).resolve() != Path(base).resolve():  # a hub's id stays what it is
        raise UserError(f"{checkpoint}: adapters for {pipeline.base_params.path}; the configuration's base is {base}")
    return pipeline


def load_measured(checkpoint: str, cpu: bool) -> DeepExprPipeline:
    """Adapters that can be measured on the face world.  Raises UserError for others."""
    if not Path(checkpoint).exists():
        raise UserError(f"{checkpoint}: no such checkpoint or folder of adapters")
    pipeline = load_pipeline(checkpoint, crop=False, cpu=cpu)
    if pipeline.embedder is None:
        raise UserError(f"{checkpoint}: these adapters were saved without SID's encoders")
    if pipeline.crop_faces:
        raise UserError(
            f"{checkpoint}: trained on faces that a detector cut out; the detector misses the face world's turned heads"
        )
    return pipeline


def _write(folder: Path, figures: dict[str, Any], pictures: list[Tensor]) -> None:
    """The files and the screen; ``pictures`` are columns of the sheet: photographs, drivers, and every row's."""
    write_json(folder / "metrics.json", figures)
    sheet = _sheet(pictures), f"photograph | driver | {' | '.join(figures[TITLE])}"
    parts = ["<h2>Attributes that the prompt names and the measuring network finds</h2>"]
    parts.append(plot(figures["attributes"], tuple(CATEGORIES)))
    write_page(folder, "MEF against the truth of the face world", _sections(figures), sheet, parts)
    for title, header, lines in _sections(figures):
        print(f"\n{title}\n{table(header, lines)}")
    print(f"\nmeasured against the face world's truth; figures, pictures and plots: '{folder / 'report.html'}'")
    print("not measured, since their weights are not bundled: FID")


def _by_person(values: Tensor, frames: int) -> list[float]:
    """Means over each person's portraits; people without any value are left out."""
    means = values.unflatten(0, (-1, frames)).nanmean(dim=1)
    return means[~means.isnan()].tolist()


def _sections(figures: dict[str, Any]) -> list[Section]:
    asked = f"{figures['measured']['people']} people never seen, {figures['measured']['expressions']} of each"
    return [
        (f"portraits: {asked} ({UNITS})", *cells(figures[TITLE])),
        ("share of the attributes named in the prompt that are there", *cells(figures["attributes"])),
        (METER_TITLE, *cells({"measuring network": figures["meter"]["summary"]})),
    ]


def _sheet(pictures: list[Tensor]) -> Tensor:
    """A row per portrait, of different people: columns, bytes ``[N, 3, H, W]``, to one picture in [0, 1]."""
    step = max(1, len(pictures[0]) // SHOWN)
    rows = [torch.cat(list(row), dim=2) for row in zip(*(column[::step][:SHOWN] for column in pictures), strict=True)]
    return torch.cat(rows, dim=1) / 255
