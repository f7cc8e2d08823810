"""How quick animation and the reading of clips are, beside the reference's way of working (benchmarks.fomm_loop).

    python -m benchmarks.speed inference    frames of 256 x 256 pixels by vox-256's networks, with random weights
    python -m benchmarks.speed latency      of frames waited for one by one, by the bundled model, and not waited for
    python -m benchmarks.speed onnx         the bundled model, and vox-256's networks, by PyTorch and by onnxruntime
    python -m benchmarks.speed pairs        two frames of a 10 s video, for training

All that is compared alternates in one process; ratios are medians of ``--rounds``.  PSNR is to what the
first way gives.  ``--processor`` counts the processor's time, of all its cores, in place of time: where others use the
machine too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio

from modules import media
from modules.arguments import Parser, number
from modules.config.files import load_config, load_rigged_config
from modules.data.astronaut import moving_face
from modules.data.cache import FrameCache
from modules.data.clips import find_clips
from modules.data.frames import choose_frames
from modules.devices import best_device, native_precision
from modules.errors import run_script
from modules.faces.tracks import KEY_EVERY
from modules.media.tensors import to_tensor
from modules.sid.animator import Animator
from modules.sid.model import SID
from modules.sid.motion_options import MotionOptions
from modules.sid.onnx.folder import load_folder, write_folder
from modules.sid.onnx.session import provider_for
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import load_rigged
from modules.sid.tuned import half_precision, tuned
from modules.sid.weights import load_model, state
from modules.training.checkpoint import save_checkpoint

from . import fomm_loop
from .demo import WEIGHTS

ROOT = Path(__file__).resolve().parent.parent
SIDE = 256

Way = Callable[[], Any]


class Timing(NamedTuple):
    """How often everything is done, and the clock, in seconds."""

    rounds: int
    clock: Callable[[], float] = time.perf_counter


def alternate(ways: dict[str, Way], timing: Timing, count: int = 1) -> dict[str, Any]:
    """Print of each way, of which the first is the reference: time for each of ``count``, and how many times as quick.

    Return what each gave last.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    for _ in range(timing.rounds + 1):  # the first warms up
        for name, way in ways.items():
            start = timing.clock()
            results[name] = way()
            seconds[name].append((timing.clock() - start) / count)
    first, *_ = seconds.values()
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(first[1:], times[1:], strict=True))
        print(f"{name:40} {1000 * statistics.median(times[1:]):9.2f} ms {ratio:7.2f}x")
    return results


def vox_networks(frames: list[np.ndarray], device: torch.device) -> SID:
    """Random ones, whose batch norms have seen such frames."""
    torch.manual_seed(0)
    model = SID(load_config(ROOT / "config/vox-256.yaml").model_params).to(device)
    batch = to_tensor(frames[:4], device)
    with torch.no_grad():
        for _ in range(8):
            found = model.kp_detector(batch)
            model.generator(batch.roll(1, 0), found.map(lambda t: t.roll(1, 0)), found)
    return model.eval()


def inference(timing: Timing, count: int, cpu: bool) -> None:
    device = best_device(cpu)
    source, *frames = moving_face(1, count + 1, SIDE)
    model = vox_networks(frames, device)
    quick, auto = tuned(deepcopy(model)), native_precision(cpu)
    ways: dict[str, Way] = {"the reference's loop": lambda: fomm_loop.animate(model, source, frames)}
    for precision in dict.fromkeys(["fp32", auto]):
        half = half_precision(precision, device)
        for batch in (1, 8):

            def animated(half: torch.dtype | None = half, batch: int = batch) -> list[np.ndarray]:
                options = MotionOptions("keypoints")
                return list(Animator(quick, source, options, batch_size=batch, half=half).animate(frames))

            ways[f"{precision}, frames read together: {batch}"] = animated
    print(f"{device.type}, {torch.get_num_threads()} threads, {count} frames of {SIDE} x {SIDE} pixels, a frame:")
    tell_psnr(alternate(ways, timing, count))


def latency(timing: Timing, count: int, cpu: bool) -> None:
    """As in live use, where each frame's result is waited for; and of a clip, whose frames go in together."""
    source, *frames = moving_face(1, count + 1, SIDE)
    device = best_device(cpu)
    model, half = tuned(load_rigged(WEIGHTS).to(device)), half_precision("auto", device)
    seconds = []
    for _ in range(timing.rounds):
        results = RiggedAnimator(model, source, batch_size=1, half=half).animate(iter(frames))
        next(results)  # what is done once
        for _ in range(count - 1):
            start = time.perf_counter()
            next(results)
            seconds.append(time.perf_counter() - start)
    middle, most = 1000 * statistics.median(seconds), 1000 * max(seconds)
    print(f"{device.type}, {torch.get_num_threads()} threads: {middle:.0f} ms a frame, {most:.0f} ms at most")

    def clip(batch: int) -> list[np.ndarray]:
        return list(RiggedAnimator(model, source, batch_size=batch, half=half).animate(frames))

    ways: dict[str, Way] = {f"frames read together: {batch}": partial(clip, batch) for batch in (1, 8)}
    alternate(ways, timing, count)


def by_onnx(timing: Timing, count: int, cpu: bool) -> None:
    source, *frames = moving_face(1, count + 1, SIDE)
    provider = provider_for(None, cpu)
    device = best_device(provider == "cpu")
    with tempfile.TemporaryDirectory() as folder:
        vox = Path(folder, "vox.pth")
        save_checkpoint(state(vox_networks(frames, torch.device("cpu"))), vox)
        rigged, plain = load_rigged_config(ROOT / "config/rigged.yaml"), load_config(ROOT / "config/vox-256.yaml")
        compared = [
            ("the bundled model", rigged, WEIGHTS, load_rigged(WEIGHTS), RiggedAnimator),
            ("vox-256's networks", plain, vox, load_model(plain.model_params, vox), Animator),
        ]
        for name, config, checkpoint, model, animator in compared:
            place = Path(folder, name)
            write_folder(config, checkpoint, place)
            models = {
                "PyTorch, fp32": tuned(model.to(device)),
                f"onnxruntime, {provider}": load_folder(config, place, provider).to(device),
            }

            def animated(model: torch.nn.Module, animator: type = animator) -> list[np.ndarray]:
                return list(animator(model, source).animate(frames))

            print(f"{name}, {torch.get_num_threads()} threads, {count} frames of {SIDE} x {SIDE} pixels, a frame:")
            ways = {way: partial(animated, model) for way, model in models.items()}
            tell_psnr(alternate(ways, timing, count))


def tell_psnr(results: dict[str, list[np.ndarray]]) -> None:
    (_, reference), *others = results.items()
    for name, frames in others:
        print(f"{name:40} {peak_signal_noise_ratio(np.stack(reference), np.stack(frames)):9.1f} dB")


def write_clips(folder: str, side: int) -> None:
    """Two clips of 10 s in its ``train``: as any, and as crop-video.py writes them."""
    root, faces = Path(folder, "train"), moving_face(1, 50, side)
    root.mkdir()
    for name, key_every in (("anybody", None), ("somebody", KEY_EVERY)):
        with media.VideoWriter(root / f"{name}#1.mp4", side, side, Fraction(25), key_every=key_every) as writer:
            for i in range(250):
                writer.write(faces[min(i % 100, 99 - i % 100)], i / 25)


def pairs(timing: Timing) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        write_clips(folder, SIDE)
        (plain, cut), _ = find_clips(folder, "train", (SIDE, SIDE, 3))
        cache = FrameCache(Path(folder, "cache"))

        def chosen() -> list[int]:
            return sorted(choose_frames(plain.times, 2, rng).tolist())

        ways = {
            "the reference's way: all of the video": lambda: fomm_loop.training_pair(plain.path, rng),
            "two frames, of any video": lambda: plain.read(chosen()),
            "two frames, as crop-video.py writes": lambda: cut.read(chosen()),
            "two frames, from cache_dir": lambda: cache.read(plain, chosen()),
        }
        alternate(ways, timing)


def add_timing(parser: Parser, rounds: int) -> None:
    """The options that :func:`timing_of` reads."""
    parser.add_argument("--rounds", type=number(int, 1, 1000), default=rounds, help="repetitions")
    parser.add_argument("--processor", action="store_true", help="count the processor's time")


def timing_of(args: argparse.Namespace) -> Timing:
    return Timing(args.rounds, time.process_time if args.processor else time.perf_counter)


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    add_timing(parts.add_parser("pairs"), 5)
    drawing = {"inference": inference, "latency": latency, "onnx": by_onnx}
    for name in drawing:
        part = parts.add_parser(name)
        add_timing(part, 5)
        part.add_argument("--frames", type=number(int, 2, 1000), default=16, help="of a clip")
        part.add_argument("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()
    if args.part == "pairs":
        pairs(timing_of(args))
    else:
        drawing[args.part](timing_of(args), args.frames, args.cpu)


if __name__ == "__main__":
    run_script(main)
