"""Self-reenactment: each test clip rebuilt from its first frame and the motion of the others."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchmetrics import Metric
from tqdm import tqdm

from ..config.rigged import RiggedConfig
from ..config.sid import Config
from ..data.clips import Clip, UnreadableClip
from ..data.frames import test_clips
from ..errors import UserError
from ..media.tensors import to_tensor
from ..sid.driving import pairs
from ..sid.inference import Animated, Moves
from ..sid.motion_options import MotionOptions
from .animation import ready
from .framed import ClipFraming
from .judges.face_reader import FaceReader, FaceReading, load_face_reader
from .metrics import CHUNK, ClipMetrics, Figures, best_affine_warp, load_lpips, mean_over_people
from .output import clip_files, table, unique_names, write_json
from .real_faces import AgainstTruth, Anchors
from .real_summary import FaceResult, face_table, summarise

ANSWERS = ("model", "affine", "repeat")
MOVING = 28.0  # dB: clips that repeating their first frame explains less well than this are said to move


def reconstruct(
    config: Config | RiggedConfig, moves: Moves, framed: ClipFraming, out: Path, device: torch.device
) -> Path:
    """Rebuild the test clips; write videos, strips and ``metrics.json`` into ``out`` and print a table.

    Every figure is over the frames after the first, which is given, averaged per person, and stands beside two trivial
    answers: the first frame repeated, and its best global affine warp.  Faces are read by judges of their own
    (:class:`.real_faces.AgainstTruth`); where the clips show none, their figures are left out.
    """
    animated = moves(MotionOptions(config.reconstruction_params.motion))
    clips = [clip for clip in test_clips(config.dataset_params) if len(clip) > 1 and not clip.is_photos]
    if not clips:
        raise UserError("the test split holds no clip of two frames or more: nothing to reconstruct")
    folder = out / "reconstruction"
    results, faces, skipped = [], [], {}
    judges = Judges(load_lpips(device), load_face_reader(device), Anchors())
    clips = clips[: config.reconstruction_params.num_videos]
    names = unique_names(clip.name for clip in clips)
    for name, clip in zip(tqdm(names, unit="clip"), clips, strict=True):
        try:
            figures, of_faces = _rebuild(animated, framed(clip), name, config, folder, judges, device)
            results.append(figures)
            faces.append(of_faces)
        except UnreadableClip as error:
            skipped[name] = str(error)
    if not results:
        raise UserError(f"none of the {len(skipped)} test clips can be read; the first: {next(iter(skipped.values()))}")
    summary, of_faces = _summary(results), summarise(faces, judges.anchors)
    write_json(folder / "metrics.json", {"summary": summary, "faces": of_faces, "clips": results, "skipped": skipped})
    _print(summary, results, skipped)
    print(f"\n{face_table(of_faces)}")
    return folder


class Judges(NamedTuple):
    """What measures results, beside arithmetic."""

    lpips: Metric | None
    reader: FaceReader
    anchors: Anchors


class Measured:
    """The figures of one clip, which comes in parts: every answer's, of pictures and of faces.

    Args:
        first: the clip's first frame, uint8 ``[H, W, 3]``, which is given.
    """

    def __init__(self, first: np.ndarray, person: str, judges: Judges, device: torch.device) -> None:
        self.given, self.person, self.judges = to_tensor([first], device), person, judges
        self.pictures = {answer: ClipMetrics(judges.lpips) for answer in ANSWERS}
        self.faces = {answer: AgainstTruth() for answer in ANSWERS}
        self.first: FaceReading = judges.reader(self.given)
        judges.anchors.add(person, self.first)

    def add(self, chunk: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Count in (frame, prediction) pairs, and what the trivial answers are to these frames."""
        target, prediction = (to_tensor(list(images), self.given.device) for images in zip(*chunk, strict=True))
        truth = self.judges.reader(target)
        self.judges.anchors.add(self.person, truth)
        warped = best_affine_warp(self.given, target)
        answers = {"model": prediction, "affine": warped, "repeat": self.given.expand_as(target)}
        for answer, images in answers.items():
            self.pictures[answer].add(images, target)
        faces = {answer: self.judges.reader(answers[answer], truth.found) for answer in ("model", "affine")}
        for answer, read in (faces | {"repeat": self.first.repeated(len(target))}).items():
            self.faces[answer].add(read, truth)

    def means(self) -> dict[str, Figures]:
        return {answer: measured.means() for answer, measured in self.pictures.items()}

    def of_faces(self) -> FaceResult:
        rows = {answer: measured.figures() for answer, measured in self.faces.items()}
        return FaceResult(self.person, rows, self.faces["model"].faces.shows_faces)


def _rebuild(
    animated: Animated,
    clip: Clip,
    name: str,
    config: Config | RiggedConfig,
    folder: Path,
    judges: Judges,
    device: torch.device,
) -> tuple[dict, FaceResult]:
    """Rebuild and measure one clip as its frames come: memory does not grow with its length."""
    params = config.reconstruction_params
    with contextlib.closing(clip.frames()) as frames, clip_files(folder, name, params.format, clip.frame_rate) as add:
        first = next(frames)
        animator = ready(animated, first, clip, clip)
        measured = Measured(first, clip.identity, judges, device)
        made = pairs(animator, itertools.chain([first], frames))
        add([first, *next(made)], 0.0)  # this one is given: it is shown, not measured
        times = iter(clip.times[1:].tolist())
        while chunk := list(itertools.islice(made, CHUNK)):
            for pair, time in zip(chunk, itertools.islice(times, len(chunk)), strict=True):
                add([first, *pair], time)
            measured.add(chunk)
    faces = measured.of_faces()
    figures = {"clip": name, "path": str(clip.path), "person": clip.identity, "frames": len(clip)}
    return figures | measured.means() | {"faces": faces.rows}, faces


def _summary(results: list[dict]) -> dict:
    groups = {"all": results, f"moving (repeat < {MOVING:g} dB)": [r for r in results if r["repeat"]["PSNR"] < MOVING]}
    return {
        group: {
            "clips": len(members),
            "people": len({r["person"] for r in members}),
            **{answer: mean_over_people((r["person"], r[answer]) for r in members) for answer in ANSWERS},
        }
        for group, members in groups.items()
        if members
    }


def _print(summary: dict, results: list[dict], skipped: dict[str, str]) -> None:
    columns = list(results[0]["model"])
    digits = {"PSNR": 2}

    def row(name: str, figures: dict) -> list[str]:
        return [name, *(f"{figures[column]:.{digits.get(column, 4)}f}" for column in columns)]

    for group, members in summary.items():
        print(f"\n{group}: {members['clips']} clips of {members['people']} people")
        print(table(["", *columns], [row(name, members[name]) for name in ANSWERS]))
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")
    print(f"\n{len(results)} clips, frames after the first, mean over people")
    if "LPIPS" not in columns:
        print("LPIPS is left out: AlexNet's weights (alexnet-owt-7be5be79.pth) are not in torch hub's folder")
