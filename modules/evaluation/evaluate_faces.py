"""--mode evaluate of SFSR: faces swapped, reenacted, or both, in pictures of the face world, against exact truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..config.mef import MEFConfig
from ..mef.options import PortraitOptions
from ..mef.painter import FacePainter
from ..world.emotions import Emotion
from . import face_tasks as tasks
from . import portrait_tasks as portraits
from . import word_tasks
from .bootstrap import intervals
from .evaluate_mef import LEAST_PEOPLE, TEACHERS, load_measured
from .judges.face_meter import find_meter, fingerprint, load_meter
from .metrics import Figures
from .output import evaluation_folder, table, write_json
from .people import PROBE_SEED, render_all
from .portrait_figures import Judge, WorldDistance, read
from .report import METER_TITLE, Section, cells, write_page
from .ruler import calibrate

COLUMNS = ("ID", "first %", "own %", "leak", "SIM", "EXP %", "POSE mean")
SHOWN = 10  # rows of the report's sheet
UNITS = "POSE in degrees; BACKGROUND: mean difference from the target outside the oval, of 255; TIME: seconds"
WORDS, TOLD = "words", "told the word"
TITLES = {WORDS: "both, of drivers who show the 135 words"}


class _Job(NamedTuple):
    """A table: what is asked for, and the ways in which it is painted.

    Attributes:
        driver: renders of those who show the expression.
        ways: with embeddings of identity and expression.
        words: that the drivers show, if they show words.
    """

    title: str
    task: str
    triples: tasks.Triples
    driver: Tensor
    ways: dict[str, tuple[tasks.Way, tuple[Tensor, Tensor]]]
    words: list[Emotion]


def evaluate_faces(config: MEFConfig, checkpoint: str, cpu: bool = False) -> Path:
    """Measure SFSR; write ``metrics.json`` and ``report.html`` into ``evaluation/<name of the checkpoint>/``.

    Raises:
        UserError: the measuring network or the adapters are not there, or these cannot be measured so.
    """
    params, size = config.evaluate_params, config.dataset_params.resolution
    path = find_meter(params.meter)
    pipeline, meter = load_measured(checkpoint, cpu), load_meter(path)
    options = PortraitOptions("", steps=params.steps, guidance_scale=params.guidance_scale, seed=params.seed)
    painter, triples = FacePainter(pipeline, options), tasks.ask(params.people, params.expressions)
    taught = portraits.ask(TEACHERS, 1, PROBE_SEED, close=True)
    source, target, others = (
        render_all(faces, size, "rendering what is asked for")[0]
        for faces in (triples.source, triples.target, taught.truth)
    )
    ruler = calibrate(meter, size, max(LEAST_PEOPLE, params.people), max(2, params.expressions))
    known, pictures = read(meter, others), tasks.Targets(painter, target)
    distance = WorldDistance(meter, others, known)
    figures: dict[str, Any] = {
        "measured": asdict(params)
        | {"meter": fingerprint(path), "size": size, "targets without a face": pictures.missed},
        "base": asdict(pipeline.base_params),
        "meter": ruler.errors,
    }
    each: dict[str, Any] = {}
    sheet = [source.repeat_interleave(params.expressions, dim=0), target]
    sees = config.train_params.dropout_params.background < 1
    for job in _jobs(painter, triples, source, sees, size):
        painted = {name: pictures.paint(way, job.task, *z) for name, (way, z) in job.ways.items()}
        asked = job.triples.asked(job.task)
        truth = render_all(asked.truth, size, f"rendering {job.title}")[0]
        wanted, *beside = (read(meter, images) for images in _people(job, source, target))
        judge = Judge(ruler, asked, taught, wanted, read(meter, truth), known, beside)
        rows = {"render": truth, "target as it is": target} | {name: made.image for name, made in painted.items()}
        figures[job.title], each[job.title] = {}, {}
        for name, images in rows.items():
            reading = read(meter, images)
            read_off, _ = judge.each(reading)
            found = {column: read_off[column] for column in COLUMNS}
            if job.words:
                found |= word_tasks.figures(reading.action_units, job.words)
            if name in painted:
                found["BACKGROUND"] = background_error(images, target, painted[name].outside)
            figures[job.title][name] = _means(found, distance(images), painted.get(name))
            each[job.title][name] = {figure: values.tolist() for figure, values in found.items()}
        sheet += [*([] if job.task == tasks.SWAP else [job.driver]), truth, next(iter(painted.values())).image]
    figures |= {"intervals": {title: intervals(rows) for title, rows in each.items()}, "each": each}
    folder = evaluation_folder(checkpoint)
    _write(folder, figures, sheet)
    return folder


def background_error(images: Tensor, target: Tensor, outside: Tensor) -> Tensor:
    """Mean difference of bytes ``[N, 3, H, W]`` where ``outside [N, 1, H, W]`` is 1: ``[N]``, of 255."""
    errors = (images.float() - target.float()).abs().mean(dim=1, keepdim=True)
    return (errors * outside).sum(dim=(1, 2, 3)) / outside.sum(dim=(1, 2, 3))


def _jobs(painter: FacePainter, triples: tasks.Triples, source: Tensor, sees: bool, size: int) -> Iterator[_Job]:
    embedder, words = painter.embedder, word_tasks.spread(triples.target.size)
    for shown, titles in (([], tasks.TASKS), (words, (WORDS,))):
        asked = word_tasks.showing(triples, words) if shown else triples
        driver = render_all(asked.driver, size, "rendering drivers")[0]
        z = portraits.embed(painter.pipeline, asked.asked(tasks.BOTH), source, driver)
        for title in titles:
            ways = tasks.ways(title, sees, z[0].shape[1] > embedder.sid.params.identity_dim)
            found = {way.name: (way, z) for way in ways}
            if shown:
                found[TOLD] = ways[0], (z[0], word_tasks.told(embedder, words))
            yield _Job(title, tasks.BOTH if shown else title, asked, driver, found, shown)


def _people(job: _Job, source: Tensor, target: Tensor) -> list[Tensor]:
    """Pictures of the people that are wanted, and of the others in each triple."""
    own = {tasks.SWAP: [source, target], tasks.REENACT: [target, job.driver], tasks.BOTH: [source, job.driver, target]}
    return own[job.task]


def _means(found: dict[str, Tensor], distance: float, painted: tasks.Painted | None) -> Figures:
    row = {name: float(values.mean()) for name, values in found.items()} | {"FD-world": distance}
    return row if painted is None else row | {"TIME": painted.seconds}


def _sections(figures: dict[str, Any]) -> list[Section]:
    asked = f"{figures['measured']['people']} people never seen, {figures['measured']['expressions']} of each"
    found: list[Section] = [
        (f"{TITLES.get(title, title)}: {asked} ({UNITS})", *cells(figures[title])) for title in (*tasks.TASKS, WORDS)
    ]
    return [*found, (METER_TITLE, *cells({"measuring network": figures["meter"]["summary"]}))]


def _write(folder: Path, figures: dict[str, Any], columns: list[Tensor]) -> None:
    """The files and the screen; ``columns`` of the sheet are bytes ``[N, 3, H, W]``."""
    write_json(folder / "metrics.json", figures)
    rows = [torch.cat(list(row), dim=2) for row in zip(*(column[:SHOWN] for column in columns), strict=True)]
    shown = [f"{title}: {'' if title == tasks.SWAP else 'driver, '}truth, painted" for title in (*tasks.TASKS, WORDS)]
    sheet = torch.cat(rows, dim=1) / 255, " | ".join(["person", "target", *shown])
    write_page(folder, "SFSR against the truth of the face world", _sections(figures), sheet, [])
    for title, header, lines in _sections(figures):
        print(f"\n{title}\n{table(header, lines)}")
    print(f"\nmeasured against the face world's truth; figures and pictures: '{folder / 'report.html'}'")
