"""Self-reenactment: each test clip rebuilt from its first frame and the motion of the others."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from modules.config import Config
from modules.data.clips import Clip, UnreadableClip
from modules.data.frames import test_clips
from modules.errors import UserError
from modules.evaluation.metrics import best_affine_warp, clip_metrics, mean_over_people
from modules.evaluation.output import clip_files, table, write_json
from modules.sid.animator import Animator, to_tensor
from modules.sid.inference import best_device, prepare_model
from modules.sid.model import SID
from modules.sid.motion import MotionOptions

MOVING = 28.0  # dB: clips that repeating their first frame explains less well than this are said to move


def reconstruct(config: Config, checkpoint: str | Path, cpu: bool = False) -> Path:
    """Rebuild the test clips; write videos, strips and ``metrics.json`` beside the checkpoint and print a table.

    Every figure is over the frames after the first, which is given, averaged per person, and stands beside two trivial
    answers: the first frame repeated, and its best global affine warp.
    """
    model = prepare_model(config.model_params, checkpoint, best_device(cpu))
    clips = [clip for clip in test_clips(config.dataset_params) if len(clip) > 1 and not clip.is_photos]
    if not clips:
        raise UserError("the test split holds no clip of two frames or more: nothing to reconstruct")
    folder = Path(checkpoint).parent / "reconstruction"
    results, skipped = [], {}
    for clip in tqdm(clips[: config.reconstruction_params.num_videos], unit="clip"):
        try:
            results.append(_rebuild(model, clip, config, folder))
        except UnreadableClip as error:
            skipped[clip.name] = str(error)
    if not results:
        raise UserError(f"none of the {len(skipped)} test clips can be read; the first: {next(iter(skipped.values()))}")
    summary = _summary(results)
    write_json(folder / "metrics.json", {"summary": summary, "clips": results, "skipped": skipped})
    _print(summary, results, skipped)
    return folder


def _rebuild(model: SID, clip: Clip, config: Config, folder: Path) -> dict:
    frames = list(clip.frames())
    if len(frames) != len(clip):
        raise UnreadableClip(f"{clip.path}: {len(clip)} frames announced, {len(frames)} decoded")
    animator = Animator(model, frames[0], MotionOptions(config.reconstruction_params.motion, same_clip=True))
    with clip_files(folder, clip.name, config.reconstruction_params.format, clip.frame_rate) as add:
        predictions = []
        for frame, picture, time in zip(frames, animator.animate(frames), clip.times, strict=True):
            add([frames[0], frame, picture], time)
            predictions.append(picture)
    target, first = to_tensor(frames[1:], animator.device), to_tensor(frames[:1], animator.device)
    answers = {
        "model": to_tensor(predictions[1:], animator.device),
        "repeat": first.expand_as(target),
        "affine": best_affine_warp(first, target),
    }
    figures = {name: clip_metrics(images, target) for name, images in answers.items()}
    return {"clip": clip.name, "person": clip.identity, "frames": len(frames), **figures}


def _summary(results: list[dict]) -> dict:
    groups = {"all": results, f"moving (repeat < {MOVING:g} dB)": [r for r in results if r["repeat"]["PSNR"] < MOVING]}
    return {
        group: {
            "clips": len(members),
            "people": len({r["person"] for r in members}),
            **{
                answer: mean_over_people((r["person"], r[answer]) for r in members)
                for answer in ("model", "repeat", "affine")
            },
        }
        for group, members in groups.items()
        if members
    }


def _print(summary: dict, results: list[dict], skipped: dict[str, str]) -> None:
    def row(name: str, figures: dict) -> list[str]:
        return [name, f"{figures['L1']:.4f}", f"{figures['PSNR']:.2f}", f"{figures['SSIM']:.4f}"]

    for group, members in summary.items():
        print(f"\n{group}: {members['clips']} clips of {members['people']} people")
        print(table(["", "L1", "PSNR", "SSIM"], [row(name, members[name]) for name in ("model", "affine", "repeat")]))
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")
    print(f"\n{len(results)} clips, frames after the first, mean over people")
    print("not measured, for want of weights: LPIPS, AKD, AED, CSIM")
