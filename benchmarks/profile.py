"""Where the time of a frame, of a training step and of a portrait goes, and how it grows.

    python -m benchmarks.profile frame       vox-256's networks (random weights) and the bundled model, part by part
    python -m benchmarks.profile training    a step of vox-256's networks at 128 x 128 pixels
    python -m benchmarks.profile portrait    by the bundled base and adapters
    python -m benchmarks.profile growth --plot growth.png    with resolution, batch, threads and frames

Parts that hold others show what is left beside these.  A part's limit is what the device does in one large convolution,
measured in the same run; a part without multiplications has none.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modules import media
from modules.arguments import Parser, number
from modules.atomic import check_place
from modules.data.astronaut import moving_face
from modules.devices import best_device, native_precision
from modules.errors import UserError, run_script
from modules.mef.inference import load_pipeline
from modules.sid import objectives
from modules.sid.animator import Animator
from modules.sid.motion_options import MotionOptions
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import load_rigged
from modules.sid.tuned import half_precision, tuned

from .demo import WEIGHTS
from .speed import ROOT, SIDE, vox_networks
from .training import step_way, vox_config

Run = Callable[[], Any]
PEAK = (8, 256, 64)  # pictures, channels and side of the convolution that tells what the device can do


class Watch:
    """Adds up the time of modules, less that of watched modules inside them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[list[Any]] = []

    def watch(self, name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda *_: self.enter(name))
        module.register_forward_hook(lambda *_: self.leave())

    def enter(self, name: str) -> None:
        _wait()
        self._stack.append([name, time.perf_counter(), 0.0])

    def leave(self) -> None:
        _wait()
        name, start, inside = self._stack.pop()
        total = time.perf_counter() - start
        self.seconds[name] += total - inside
        if self._stack:
            self._stack[-1][2] += total

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        self.enter(name)
        yield
        self.leave()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Multiplications and additions a second of one large convolution: the best of several."""
    count, width, side = PEAK
    form = torch.channels_last
    x = torch.randn(count, width, side, side, device=device, dtype=dtype).to(memory_format=form)
    weight = torch.randn(width, width, 3, 3, device=device, dtype=dtype).to(memory_format=form)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        F.conv2d(x, weight, padding=1)
        _wait()
        best = min(best, time.perf_counter() - start)
    return 2 * count * side * side * width * width * 9 / best


def report(title: str, watch: Watch, run: Run, rounds: int, per: int, limit: float | None = None) -> None:
    """Print each part's time for one of ``per`` things, its share, and how much of ``limit`` all of them reach."""
    run()  # warms up
    with FlopCounterMode(display=False) as counter:
        run()
    watch.seconds.clear()
    start = time.perf_counter()
    for _ in range(rounds):
        run()
    _wait()
    total = time.perf_counter() - start
    watch.seconds["between them"] = total - sum(watch.seconds.values())
    print(f"\n{title}: {1000 * total / rounds / per:.1f} ms")
    for name, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        print(f"  {name:42} {1000 * seconds / rounds / per:8.1f} ms {100 * seconds / total:5.1f} %")
    done = counter.get_total_flops() * rounds / total
    told = "" if limit is None else f", {100 * done / limit:.0f} % of one large convolution's {limit / 1e9:.0f}"
    print(f"  {counter.get_total_flops() / per / 1e9:.1f} GFLOP, {done / 1e9:.0f} GFLOP/s{told}")


def frame(rounds: int, cpu: bool) -> None:
    device, count = best_device(cpu), 8
    source, *frames = moving_face(1, count + 1, SIDE)
    half = half_precision("auto", device)
    limit = peak(half or torch.float32, device)
    model, watch = tuned(vox_networks(frames, device)), Watch()
    generator = model.generator
    watch.watch("key points", model.kp_detector)
    watch.watch("dense motion", generator.dense_motion_network)
    watch.watch("warping, occlusion, and what is left", generator)
    for block in generator.bottleneck:
        watch.watch("bottleneck", block)
    for block in generator.up_blocks:
        watch.watch("up blocks", block)
    watch.watch("last convolution", generator.final)
    animator = Animator(model, source, MotionOptions("keypoints"), half=half)
    precision = native_precision(cpu)
    title = f"a frame of {SIDE} x {SIDE} pixels by vox-256's networks, {precision}"
    report(title, watch, lambda: list(animator.animate(frames)), rounds, count, limit)

    rigged, watch = tuned(load_rigged(WEIGHTS).to(device)), Watch()
    watch.watch("points of the driver", rigged.points)
    watch.watch("encoder", rigged.encoder)
    watch.watch("motion head", rigged.rig)
    watch.watch("motion of the frame", rigged.generator.motion)
    watch.watch("mouth and eyes", rigged.generator.closeups)
    watch.watch("warping and pasting", rigged.generator)
    moves = RiggedAnimator(rigged, source, half=half)
    title = f"a frame of {SIDE} x {SIDE} pixels by the bundled model, {precision}"
    report(title, watch, lambda: list(moves.animate(frames)), rounds, count, limit)

    with tempfile.TemporaryDirectory() as folder:
        clip, watch = Path(folder) / "clip.mp4", Watch()

        def coded() -> None:
            with watch.part("encoding"), media.VideoWriter(clip, SIDE, SIDE, Fraction(25)) as writer:
                for i, image in enumerate(frames):
                    writer.write(image, i / 25)
            with watch.part("decoding"):
                list(media.read_video(clip))

        report(f"a frame of {SIDE} x {SIDE} pixels written and read as H.264", watch, coded, rounds, count)


def training(rounds: int, cpu: bool) -> None:
    device, count = best_device(cpu), 4
    watch = Watch()
    config = vox_config()
    learning = objectives.build(config)
    model, step = learning.model, learning.generator_step
    watch.watch("forward: key points", model.kp_detector)
    watch.watch("forward: generator", model.generator)
    watch.watch("forward: VGG-19", step.perceptual)
    watch.watch("forward: discriminator", learning.discriminator)
    for objective in learning.objectives:
        watch.watch("forward: losses", objective.module)
    way = step_way(config, learning, native_precision(cpu), count, device)
    limit = peak(half_precision("auto", device) or torch.float32, device)
    title = f"a pair of 128 x 128 pixels in training, vox-256's networks, {native_precision(cpu)}"
    report(f"{title} (between them: backward, optimisers)", watch, way, rounds, count, limit)


def portrait(rounds: int, cpu: bool) -> None:
    pipeline, watch = load_pipeline(str(ROOT / "MEF_Checkpoints/adapters"), cpu=cpu), Watch()
    base = pipeline.base
    base.set_progress_bar_config(disable=True)
    watch.watch("text encoder", base.text_encoder)
    watch.watch("UNet with adapters", base.unet)
    watch.watch("decoder", base.vae.decoder)
    face = moving_face(1, 1, 128)[0]
    watch.watch("SID's encoders", pipeline.embedder.sid)

    def drawn() -> None:
        identity, expression = pipeline.embed(identity_image=face, expression_image=face)
        pipeline(
            "a portrait photo of a person",
            identity_embedding=identity,
            expression_embedding=expression,
            num_inference_steps=25,
        )

    report("a portrait of 128 x 128 pixels, 25 steps, guided, by the bundled base", watch, drawn, rounds, 1)


def growth(rounds: int, cpu: bool, plot: Path | None) -> None:
    device, half = best_device(cpu), half_precision("auto", best_device(cpu))
    rigged = tuned(load_rigged(WEIGHTS).to(device))
    large, *frames = moving_face(1, 33, 1024)
    frames = [media.fit(image, SIDE, SIDE) for image in frames]
    source, threads = media.fit(large, SIDE, SIDE), torch.get_num_threads()

    def seconds(run: Run) -> float:
        run()
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    def shown(count: int = 16, side: int = SIDE, batch: int = 8) -> Run:
        big = media.fit(large, side, side)
        moves = RiggedAnimator(rigged, source, batch_size=batch, large=big, half=half)
        return lambda: list(moves.animate(frames[:count]))

    curves: dict[str, dict[int, float]] = {
        "pixels of the result's side": {side: seconds(shown(8, side)) / 8 for side in (256, 384, 512, 768, 1024)},
        "frames read together": {batch: seconds(shown(16, SIDE, batch)) / 16 for batch in (1, 2, 4, 8, 16)},
        "frames": {count: seconds(shown(count)) / count for count in (2, 4, 8, 16, 32)},
    }
    if device.type == "cpu":
        curves["threads"] = {}
        for count in range(1, threads + 1):
            torch.set_num_threads(count)
            curves["threads"][count] = seconds(shown()) / 16
        torch.set_num_threads(threads)
    for name, curve in curves.items():
        told = ", ".join(f"{value}: {1000 * s:.0f}" for value, s in curve.items())
        print(f"ms a frame by {name}: {told}")
    if plot is not None:
        _draw(curves, plot)
        print(f"wrote {plot}")


def _draw(curves: dict[str, dict[int, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(3.2 * len(curves), 2.6), constrained_layout=True)
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        axis.plot(list(curve), [1000 * s for s in curve.values()], marker="o")
        axis.set(xlabel=name, ylabel="ms a frame", xscale="log", ylim=0)
        axis.set_xticks(list(curve), [str(value) for value in curve], minor=False)
        axis.minorticks_off()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parts = {"frame": frame, "training": training, "portrait": portrait}
    parser.add_argument("part", choices=[*parts, "growth"])
    parser.add_argument("--rounds", type=number(int, 1, 1000), default=3, help="repetitions (default: 3)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="of growth: picture to write")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()
    if args.plot is not None:
        if args.part != "growth":
            raise UserError("--plot: is of growth; leave it out")
        check_place(args.plot)
    if args.part == "growth":
        growth(args.rounds, args.cpu, args.plot)
    else:
        parts[args.part](args.rounds, args.cpu)


if __name__ == "__main__":
    run_script(main)
