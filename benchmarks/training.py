"""How quick a training step is, beside the reference's way of working (benchmarks.fomm_loop).

    python -m benchmarks.training step      vox-256's networks at 128 x 128 pixels, with FOMM's losses
    python -m benchmarks.training curves    losses of sid-64's networks in bf16 and in fp32, over --steps
    python -m benchmarks.training loader    which share of training the step waits for pictures, by --workers

Ways of a step alternate in one process; the ratio is the median of ``--rounds``.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from modules.arguments import Parser, number
from modules.config.files import load_config
from modules.config.sid import Config, LossWeights, PerceptualParams
from modules.data.astronaut import moving_face
from modules.data.frames import FrameDataset
from modules.data.sampling import build_loader
from modules.devices import best_device, keep_freed_memory, native_precision
from modules.errors import run_script
from modules.media.tensors import to_tensor
from modules.sid import objectives
from modules.sid.objectives import Learning
from modules.sid.tuned import Precision
from modules.training.run import build_accelerator
from modules.training.updates import Updates

from . import fomm_loop
from .speed import ROOT, Timing, Way, add_timing, alternate, timing_of, write_clips

SIDE = 128
WINDOW = 50  # steps
BEFORE = 3  # steps that are not counted
USUAL_PIECES = 2**25  # bytes up to which glibc keeps what is freed, unless it is told to keep more


Batch = dict[str, Tensor]


def vox_config() -> Config:
    """vox-256's, with a VGG-19 that costs what ImageNet's does."""
    config = load_config(ROOT / "config/vox-256.yaml")
    train = replace(config.train_params, perceptual_network=PerceptualParams(weights="random"))
    return replace(config, train_params=train)


def moving_pairs(count: int, device: torch.device) -> Tensor:
    """``[count, 2, 3, SIDE, SIDE]``, in [0, 1]."""
    return to_tensor(moving_face(1, 2 * count, SIDE), device).unflatten(0, (count, 2))


def step_on(config: Config, learning: Learning, precision: Precision, device: torch.device) -> Callable[[Batch], float]:
    """A step of networks that learn by ``config``, as training does it: a batch -> the loss."""
    accelerator = build_accelerator(replace(config.train_params, precision=precision), device.type == "cpu")
    for objective in learning.objectives:
        objective.module.to(accelerator.device)
    updates = [Updates(accelerator, o.module, o.optimizers, None) for o in learning.objectives]

    def step(batch: Batch) -> float:
        parts: list[Any] = [batch]
        for update in updates:
            losses, parts, _ = update.follow(parts)
        return float(sum(losses.values()))  # which waits for the device

    return step


def step_way(config: Config, learning: Learning, precision: Precision, count: int, device: torch.device) -> Way:
    """A step on the same ``count`` pairs again and again."""
    learn, batch = step_on(config, learning, precision, device), {"frames": moving_pairs(count, device)}

    def way() -> float:
        keep_freed_memory()
        return learn(batch)

    return way


def step(timing: Timing, count: int, cpu: bool) -> None:
    """A step on ``count`` pairs: the reference's, in fp32, and this project's in the precision that is native."""
    config, device, native = vox_config(), best_device(cpu), native_precision(cpu)
    print(f"{device.type}, {torch.get_num_threads()} threads, {SIDE} x {SIDE} pixels, a pair:")
    reference = fomm_loop.training_step(config, moving_pairs(count, device))

    def usual() -> float:
        keep_freed_memory(USUAL_PIECES)
        return reference()

    quick = step_way(config, objectives.build(config), native, count, device)
    losses = alternate({"the reference's step": usual, f"this project's, {native}": quick}, timing, count)
    print(f"losses of the last step: {', '.join(f'{loss:.3f}' for loss in losses.values())}")


def small_config(seed: int) -> Config:
    """sid-64's, without encoders: FOMM's losses, pixels and the key points' prior."""
    config = load_config(ROOT / "config/sid-64.yaml")
    old = config.train_params.loss_weights
    kept = {name: getattr(old, name) for name in ("perceptual", "pixel", "keypoint_prior")}
    train = replace(config.train_params, seed=seed, loss_weights=LossWeights(**kept), head_probability=0.0)
    return replace(config, model_params=replace(config.model_params, encoder_params=None), train_params=train)


def curve(precision: Precision, seed: int, count: int, device: torch.device) -> Iterator[float]:
    """Losses of steps on ``count`` pairs of three people; weights and pairs are of the seed."""
    config = small_config(seed)
    learn = step_on(config, objectives.build(config), precision, device)
    people = torch.stack([to_tensor(moving_face(person, 50, 64), device) for person in range(3)])
    rng = np.random.default_rng(seed)
    for place in itertools.count():
        who, when = rng.integers(3, size=(count, 1)), rng.integers(50, size=(count, 2))
        torch.manual_seed(int(np.random.SeedSequence([seed, place]).generate_state(1)[0]))
        yield learn({"frames": people[who, when]})


def curves(steps: int, count: int, cpu: bool) -> None:
    """bf16 beside fp32, from one seed, and what another seed makes of the loss; they learn in turns."""
    device = best_device(cpu)
    runs = {"fp32": ("fp32", 0), "bf16": ("bf16", 0), "fp32, another seed": ("fp32", 1)}
    learning = [curve(precision, seed, count, device) for precision, seed in runs.values()]
    print(f"step: mean losses of {WINDOW} steps, {'; '.join(runs)}")
    means = []
    for end in range(WINDOW, steps + 1, WINDOW):
        losses = [[next(one) for one in learning] for _ in range(WINDOW)]
        means.append(np.mean(losses, axis=0))
        print(f"{end:4}: {'  '.join(f'{value:.3f}' for value in means[-1])}", flush=True)
    fp32, bf16, other = np.transpose(means)
    for name, found in (("bf16", bf16), ("fp32, another seed", other)):
        off = 100 * (found / fp32 - 1)
        print(f"{name}: {off.mean():+.1f} % from fp32 in the mean, {abs(off).mean():.1f} % apart")


def loader(steps: int, workers: list[int], count: int, cpu: bool) -> None:
    """Steps of vox-256's networks on pairs of a folder of clips, read by processes beside."""
    config, device, precision = vox_config(), best_device(cpu), native_precision(cpu)
    cores = len(os.sched_getaffinity(0))
    print(f"{device.type}, {cores} cores for all processes, {count} pairs of {SIDE} x {SIDE} pixels a step:")
    learn = step_on(config, objectives.build(config), precision, device)
    train = replace(config.train_params, batch_size=count, num_repeats=count * (steps + BEFORE))
    with tempfile.TemporaryDirectory() as folder:
        write_clips(folder, SIDE)
        for cache in (None, str(Path(folder, "cache"))):
            for wanted in workers:
                data = replace(config.dataset_params, root_dir=folder, frame_shape=(SIDE, SIDE, 3), cache_dir=cache)
                read = build_loader(replace(data, num_workers=wanted), train)
                cast(FrameDataset, read.dataset).prepare_cache(progress=False)
                waited, whole = waiting(iter(read), learn, steps, device)
                place = "clips" if cache is None else "cache_dir"
                told = f"{wanted} processes asked for, {read.num_workers} started"
                print(f"{place}, {told}: {100 * waited / whole:.1f} % waiting, {1000 * whole / steps:.0f} ms a step")


def waiting(batches: Iterator[Batch], learn: Callable[[Batch], float], steps: int, device: torch.device) -> list[float]:
    """Seconds of waiting for batches, and in all, of ``steps`` after the first ``BEFORE``."""
    waited = whole = 0.0
    for place in range(steps + BEFORE):
        start = time.perf_counter()
        batch = next(batches)
        come = time.perf_counter()
        learn({"frames": batch["frames"].to(device)})
        if place >= BEFORE:
            waited, whole = waited + come - start, whole + time.perf_counter() - start
    return [waited, whole]


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    by_part = {name: parts.add_parser(name) for name in ("step", "curves", "loader")}
    for part in by_part.values():
        part.add_argument("--pairs", type=number(int, 2, 1000), default=4, help="of a step")
        part.add_argument("--cpu", action="store_true", help="do not use a GPU")
    add_timing(by_part["step"], 5)
    for name, steps in (("curves", 500), ("loader", 20)):
        by_part[name].add_argument("--steps", type=number(int, 1, 10**6), default=steps, help="to train")
    by_part["loader"].add_argument("--workers", type=number(int, 0, 256), nargs="+", default=[2, 16], help="processes")
    args = parser.parse_args()
    if args.part == "step":
        step(timing_of(args), args.pairs, args.cpu)
    elif args.part == "curves":
        curves(args.steps, args.pairs, args.cpu)
    else:
        loader(args.steps, args.workers, args.pairs, args.cpu)


if __name__ == "__main__":
    run_script(main)
