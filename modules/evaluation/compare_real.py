"""Cross-reenactment of a folder of real clips, everybody by everybody else: figures alone, to compare models by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..config.rigged import RiggedConfig
from ..config.sid import Config
from ..data.clips import Clip, UnreadableClip, find_clips
from ..errors import UserError
from ..sid.inference import Moves
from .animation import driven, motion_options
from .framed import ClipFraming
from .output import write_json
from .real_pairs import PairFaces
from .real_summary import columns, face_table, summarise


def compare_real(
    config: Config | RiggedConfig,
    moves: Moves,
    framed: ClipFraming,
    out: Path,
    device: torch.device,
    folder: str | Path,
    limit: int | None,
) -> Path:
    """Drive the first frame of every clip in ``folder`` by every other person's clip, ``limit`` pairs at most.

    Writes ``metrics.json`` into ``out`` and prints a table.  No picture is written, and there is no truth to measure
    against.

    Raises:
        UserError: the folder holds no two people; or none of its clips can be read.
    """
    clips, bad = find_clips(folder, "all", config.dataset_params.frame_shape)
    skipped = {path.name: reason for path, reason in bad.items()}
    pairs = cross_pairs(clips, limit, config.dataset_params.random_seed)
    animated, faces = moves(motion_options(config)), PairFaces(device)
    for source, driving in tqdm(pairs, unit="pair"):
        try:
            with driven(animated, framed(source), framed(driving), faces) as (_, moved):
                for _ in moved:
                    pass
        except UnreadableClip as error:
            skipped[f"{source.name}-{driving.name}"] = str(error)
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")
    if not faces.results:
        raise UserError(f"{folder}: none of the {len(pairs)} pairs could be animated")
    summary = summarise([result for _, result in faces.results], faces.anchors)
    if not summary:
        raise UserError(f"{folder}: no face is found in most of the frames of most clips; give clips of faces")
    names = [f"{source.name}-{driving.name}" for (source, driving), _ in faces.results]
    write_json(
        out / "metrics.json",
        {
            "measured": {"size": list(config.dataset_params.frame_shape[:2]), "pairs": names},
            "faces": summary,
            "each": {"real faces": {"model": _of_all(summary)}},  # for modules.evaluation.compare
            "pairs": faces.each(),
            "skipped": skipped,
        },
    )
    print(face_table(summary, "pairs"))
    print(f"\nfigures: '{out / 'metrics.json'}'")
    return out


def _of_all(summary: dict[str, Any]) -> dict[str, list[float]]:
    """The model's figures that everybody has, person by person: of others it is not told whose are missing."""
    people = summary["people"]
    return {name: values for name, values in columns(people)["model"].items() if len(values) == len(people)}


def cross_pairs(clips: list[Clip], limit: int | None, seed: int = 0) -> list[tuple[Clip, Clip]]:
    """(source, driving) pairs of clips of two people, in a seeded order; everybody's turn as the source comes round.

    So the first few of them are as many people as they can be, and a fair sample of all.

    Raises:
        UserError: there are no two people, or nobody moves.
    """
    every = [(a, b) for a in clips for b in clips if a.identity != b.identity and not b.is_photos and len(b) > 1]
    if not every:
        raise UserError("--real_faces: needs clips of two people, PERSON#NUMBER.mp4, one of them with frames to drive")
    order = np.random.default_rng(seed).permutation(len(every))
    turns: Counter[str] = Counter()
    rounds = []
    for source, driving in (every[i] for i in order):
        rounds.append((turns[source.identity], (source, driving)))
        turns[source.identity] += 1
    return [pair for _, pair in sorted(rounds, key=lambda turn: turn[0])][:limit]
