"""--mode evaluate of SFSR: faces swapped, reenacted, or both, in pictures of the face world, against exact truth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config.mef import MEFConfig
from ..mef.options import PortraitOptions
from ..mef.painter import FacePainter
from . import face_tasks as tasks
from . import portrait_figures as figures_of
from . import portrait_tasks as portraits
from .bootstrap import intervals
from .evaluate_mef import LEAST_PEOPLE, TEACHERS, load_measured
from .judges.face_meter import find_meter, fingerprint, load_meter
from .metrics import Figures
from .output import evaluation_folder, table, write_json
from .people import PROBE_SEED, render_all
from .report import METER_TITLE, Section, cells, write_page
from .ruler import calibrate

SHOWN = 10  # rows of the report's sheet
SFSR = tasks.Way("SFSR")
UNITS = "POSE in degrees; BACKGROUND: mean difference from the target outside the oval, of 255; TIME: seconds"
COLUMNS = ("ID", "first %", "SIM", "EXP %", "POSE mean")


def evaluate_faces(config: MEFConfig, checkpoint: str, cpu: bool = False) -> Path:
    """Measure SFSR; write ``metrics.json`` and ``report.html`` into ``evaluation/<name of the checkpoint>/``.

    Raises:
        UserError: the measuring network or the adapters are not there, or these cannot be measured so.
    """
    params, size = config.evaluate_params, config.dataset_params.resolution
    path = find_meter(params.meter)
    pipeline = load_measured(checkpoint, cpu)
    options = PortraitOptions("", steps=params.steps, guidance_scale=params.guidance_scale, seed=params.seed)
    painter = FacePainter(pipeline, options)
    triples, meter = tasks.ask(params.people, params.expressions), load_meter(path)
    taught = portraits.ask(TEACHERS, 1, PROBE_SEED, close=True)
    source, driver, target, others = (
        render_all(faces, size, "rendering what is asked for")[0]
        for faces in (triples.source, triples.driver, triples.target, taught.truth)
    )
    ruler = calibrate(meter, size, max(LEAST_PEOPLE, params.people), max(2, params.expressions))
    known = figures_of.read(meter, others)
    distance = figures_of.WorldDistance(meter, others, known)
    embeddings = portraits.embed(pipeline, triples.asked(tasks.BOTH), source, driver)
    pictures = tasks.Targets(painter, target)
    has_more = embeddings[0].shape[1] > pipeline.embedder.sid.params.identity_dim
    figures: dict[str, Any] = {
        "measured": asdict(params)
        | {"meter": fingerprint(path), "size": size, "targets without a face": pictures.missed},
        "base": asdict(pipeline.base_params),
        "meter": ruler.errors,
    }
    each: dict[str, Any] = {}
    sheet = [source.repeat_interleave(params.expressions, dim=0), driver, target]
    for task in tasks.TASKS:
        asked = triples.asked(task)
        truth = render_all(asked.truth, size, f"rendering {task}")[0]
        wanted = target if task == tasks.REENACT else source
        other = target if task == tasks.SWAP else driver
        readings = (figures_of.read(meter, images) for images in (wanted, other, truth))
        judge = figures_of.Judge(ruler, asked, taught, *readings, known)
        ways = [SFSR, *((*tasks.WAYS, *([tasks.ALONE] if has_more else [])) if task == tasks.BOTH else ())]
        painted = {way.name: pictures.paint(way, task, *embeddings) for way in ways}
        rows = {"render": truth, "target as it is": target} | {name: made.image for name, made in painted.items()}
        figures[task], each[task] = {}, {}
        for name, images in rows.items():
            found = {column: judge.each(figures_of.read(meter, images))[0][column] for column in COLUMNS}
            if name in painted:
                found["BACKGROUND"] = background_error(images, target, painted[name].outside)
            figures[task][name] = _means(found, distance(images), painted.get(name))
            each[task][name] = {figure: values.tolist() for figure, values in found.items()}
        sheet += [truth, painted[SFSR.name].image]
    figures |= {"intervals": {task: intervals(rows) for task, rows in each.items()}, "each": each}
    folder = evaluation_folder(checkpoint)
    _write(folder, figures, sheet)
    return folder


def background_error(images: Tensor, target: Tensor, outside: Tensor) -> Tensor:
    """Mean difference of bytes ``[N, 3, H, W]`` where ``outside [N, 1, H, W]`` is 1: ``[N]``, of 255."""
    errors = (images.float() - target.float()).abs().mean(dim=1, keepdim=True)
    return (errors * outside).sum(dim=(1, 2, 3)) / outside.sum(dim=(1, 2, 3))


def _means(found: dict[str, Tensor], distance: float, painted: tasks.Painted | None) -> Figures:
    row = {name: float(values.mean()) for name, values in found.items()} | {"FD-world": distance}
    return row if painted is None else row | {"TIME": painted.seconds}


def _sections(figures: dict[str, Any]) -> list[Section]:
    asked = f"{figures['measured']['people']} people never seen, {figures['measured']['expressions']} of each"
    found: list[Section] = [(f"{task}: {asked} ({UNITS})", *cells(figures[task])) for task in tasks.TASKS]
    return [*found, (METER_TITLE, *cells({"measuring network": figures["meter"]["summary"]}))]


def _write(folder: Path, figures: dict[str, Any], columns: list[Tensor]) -> None:
    """The files and the screen; ``columns`` of the sheet are bytes ``[N, 3, H, W]``."""
    write_json(folder / "metrics.json", figures)
    rows = [torch.cat(list(row), dim=2) for row in zip(*(column[:SHOWN] for column in columns), strict=True)]
    shown = " | ".join(f"{task}: truth | painted" for task in tasks.TASKS)
    sheet = torch.cat(rows, dim=1) / 255, f"person | driver | target | {shown}"
    write_page(folder, "SFSR against the truth of the face world", _sections(figures), sheet, [])
    for title, header, lines in _sections(figures):
        print(f"\n{title}\n{table(header, lines)}")
    print(f"\nmeasured against the face world's truth; figures and pictures: '{folder / 'report.html'}'")
