"""Animating test clips by one another: pairs from a list or drawn at random."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from tqdm import tqdm

from modules.config import Config
from modules.data.clips import Clip, UnreadableClip
from modules.data.frames import test_clips
from modules.errors import UserError
from modules.evaluation.output import clip_files
from modules.sid.animator import Animator
from modules.sid.inference import best_device, prepare_model
from modules.sid.model import SID
from modules.sid.motion import MotionOptions


def animate_pairs(config: Config, checkpoint: str | Path, cpu: bool = False) -> Path:
    """Drive the first frame of one test clip by another, for every pair; write ``animation/`` beside the checkpoint."""
    params = config.animate_params
    normalization = params.normalization_params
    options = MotionOptions(
        params.motion,
        relative=normalization.use_relative_movement,
        adapt_scale=normalization.adapt_movement_scale,
        relative_jacobian=normalization.use_relative_jacobian,
    )
    pairs = choose_pairs(test_clips(config.dataset_params), config)
    model = prepare_model(config.model_params, checkpoint, best_device(cpu))
    folder = Path(checkpoint).parent / "animation"
    skipped = []
    for source, driving in tqdm(pairs, unit="pair"):
        try:
            _animate(model, source, driving, folder, params.format, options)
        except UnreadableClip as error:
            skipped.append(str(error))
    for reason in skipped:
        print(f"left out: {reason}")
    if len(skipped) == len(pairs):
        raise UserError("none of the pairs could be animated")
    print(f"{len(pairs) - len(skipped)} animations in '{folder}'")
    return folder


def _animate(model: SID, source: Clip, driving: Clip, folder: Path, suffix: str, options: MotionOptions) -> None:
    source_image, frames = next(source.frames()), list(driving.frames())
    if len(frames) != len(driving):
        raise UnreadableClip(f"{driving.path}: {len(driving)} frames announced, {len(frames)} decoded")
    with clip_files(folder, f"{source.name}-{driving.name}", suffix, driving.frame_rate) as add:
        pictures = Animator(model, source_image, options).animate(frames)
        for frame, picture, time in zip(frames, pictures, driving.times, strict=True):
            add([source_image, frame, picture], time)


def choose_pairs(clips: list[Clip], config: Config) -> list[tuple[Clip, Clip]]:
    """(source, driving) pairs of ``pairs_list``, else seeded random ones of different clips, ``num_pairs`` at most.

    Raises:
        UserError: the list is missing or names a clip that the test split has not; or there are no two clips.
    """
    params = config.dataset_params
    if params.pairs_list is not None:
        pairs = _listed_pairs(Path(params.pairs_list), clips)
    else:
        videos = [clip for clip in clips if not clip.is_photos]
        every = [(source, driving) for source in clips for driving in videos if source is not driving]
        if not every:
            raise UserError("animating needs two clips in the test split, one of them with frames to drive the other")
        order = np.random.default_rng(params.random_seed).permutation(len(every))
        pairs = [every[i] for i in order]
    return pairs[: config.animate_params.num_pairs]


def _listed_pairs(path: Path, clips: list[Clip]) -> list[tuple[Clip, Clip]]:
    # FOMM's lists name files with their ending, folders without: both find the clip
    named = {name: clip for clip in clips for name in (clip.name, clip.path.name)}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path}: cannot read dataset_params.pairs_list: {error.strerror}") from error
    pairs = []
    for number, row in enumerate(rows, start=2):
        try:
            pairs.append((named[row["source"]], named[row["driving"]]))
        except KeyError as error:
            if error.args[0] in ("source", "driving"):
                raise UserError(f"{path}: the first line must name the columns source,driving") from None
            raise UserError(f"{path}: line {number}: the test split has no clip {error.args[0]!r}") from None
    return pairs
