"""Animating test clips by one another: pairs from a list or drawn at random."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..config.rigged import RiggedConfig
from ..config.sid import Config
from ..data.clips import Clip, UnreadableClip
from ..data.frames import test_clips
from ..errors import UserError
from ..sid.driving import Animates
from ..sid.driving import pairs as driven_pairs
from ..sid.inference import Animated, Moves
from ..sid.motion_options import MotionOptions
from ..sid.videos import Source
from .framed import ClipFraming, frames_throughout
from .output import clip_files, unique_names, write_json
from .real_pairs import Pair, PairFaces
from .real_summary import face_table, summarise


def animate_pairs(
    config: Config | RiggedConfig, moves: Moves, framed: ClipFraming, out: Path, device: torch.device
) -> Path:
    """Drive the first frame of one test clip by another, for every pair; write ``animation/`` into ``out``.

    Faces are read by judges of their own (:class:`.real_faces.AgainstDriver`), their figures printed and written to
    ``metrics.json``.
    """
    pairs = choose_pairs(test_clips(config.dataset_params), config)
    animated, faces = moves(motion_options(config)), PairFaces(device)
    folder = out / "animation"
    skipped = []
    names = unique_names(f"{source.name}-{driving.name}" for source, driving in pairs)
    for name, (source, driving) in zip(tqdm(names, unit="pair"), pairs, strict=True):
        try:
            with (
                driven(animated, framed(source), framed(driving), faces) as (source_image, moved),
                clip_files(folder, name, config.animate_params.format, driving.frame_rate) as add,
            ):
                for pair, time in zip(moved, driving.times.tolist(), strict=True):
                    add([source_image, *pair], time)
        except UnreadableClip as error:
            skipped.append(str(error))
    for reason in skipped:
        print(f"left out: {reason}")
    if len(skipped) == len(pairs):
        raise UserError("none of the pairs could be animated")
    summary = summarise([result for _, result in faces.results], faces.anchors)
    write_json(folder / "metrics.json", {"faces": summary, "pairs": faces.each()})
    print(face_table(summary, "pairs"))
    print(f"{len(pairs) - len(skipped)} animations in '{folder}'")
    return folder


def motion_options(config: Config | RiggedConfig) -> MotionOptions:
    """How ``animate_params`` says that a source is driven."""
    params = config.animate_params
    normalization = params.normalization_params
    return MotionOptions(
        params.motion,
        relative=normalization.use_relative_movement,
        adapt_scale=normalization.adapt_movement_scale,
        relative_jacobian=normalization.use_relative_jacobian,
    )


@contextmanager
def driven(
    animated: Animated, source: Clip, driving: Clip, faces: PairFaces
) -> Iterator[tuple[np.ndarray, Iterator[Pair]]]:
    """A clip's first frame, and every frame of another with what it makes of it; measured as they are taken."""
    with closing(source.frames()) as frames:
        source_image = next(frames)
    animator = ready(animated, source_image, source, driving)
    with closing(driving.frames()) as frames:
        yield source_image, faces.watch(source, driving, source_image, driven_pairs(animator, frames))


def ready(animated: Animated, image: np.ndarray, source: Clip, driving: Clip) -> Animates:
    """What moves ``image``, a frame of ``source``, and has looked at its driver.  Raises UnreadableClip: it cannot."""
    try:
        animator = animated(Source(image, image))
        animator.prepare(frames_throughout(driving))
    except UserError as error:
        raise UnreadableClip(f"{source.path}, driven by {driving.path}: {error}") from error
    return animator


def choose_pairs(clips: list[Clip], config: Config | RiggedConfig) -> list[tuple[Clip, Clip]]:
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
    named: dict[str, list[Clip]] = {}
    for clip in clips:  # FOMM's lists name files with their ending, folders without: both find it, and so do paths
        for name in {clip.name, clip.path.name, str(clip.path)}:
            named.setdefault(name, []).append(clip)

    def find(name: str | None, line: int) -> Clip:
        found = named.get(name or "", [])
        if not found:
            raise UserError(f"{path}: line {line}: the test split has no clip {name or ''!r}")
        if len(found) > 1:
            which = ", ".join(str(clip.path) for clip in found)
            raise UserError(f"{path}: line {line}: {name!r} may be any of {which}; name it in full")
        return found[0]

    return [(find(row["source"], line), find(row["driving"], line)) for line, row in _rows(path)]


def _rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    """The rows of ``pairs_list`` with the numbers of their lines; as Excel writes it, with a mark at its begin, too."""
    where = f"{path}: dataset_params.pairs_list"
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is not UTF-8 text; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{where}: line {reader.line_num}: is not CSV ({error})") from error
    if not {"source", "driving"} <= columns:
        raise UserError(f"{path}: the first line must name the columns source,driving")
    if not rows:
        raise UserError(f"{where}: holds no pair; write a line source,driving for each")
    return rows
