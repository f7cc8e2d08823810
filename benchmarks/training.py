"""How quick a training step is, beside the reference's way of working (benchmarks.fomm_loop).

    python -m benchmarks.training step      vox-256's networks at 128 x 128 pixels, with FOMM's losses

Ways alternate in one process; the ratio is the median of ``--rounds``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from modules.arguments import Parser, number
from modules.config.files import load_config
from modules.config.sid import Config, PerceptualParams
from modules.data.astronaut import moving_face
from modules.devices import best_device, keep_freed_memory, native_precision
from modules.errors import run_script
from modules.media.tensors import to_tensor
from modules.sid import objectives
from modules.sid.objectives import Learning
from modules.sid.tuned import Precision
from modules.training.run import build_accelerator
from modules.training.updates import Updates

from . import fomm_loop
from .speed import ROOT, Timing, Way, add_timing, alternate, timing_of

SIDE = 128
USUAL_PIECES = 2**25  # bytes up to which glibc keeps what is freed, unless it is told to keep more


def vox_config() -> Config:
    """vox-256's, with a VGG-19 that costs what ImageNet's does."""
    config = load_config(ROOT / "config/vox-256.yaml")
    train = replace(config.train_params, perceptual_network=PerceptualParams(weights="random"))
    return replace(config, train_params=train)


def moving_pairs(count: int, device: torch.device) -> Tensor:
    """``[count, 2, 3, SIDE, SIDE]``, in [0, 1]."""
    return to_tensor(moving_face(1, 2 * count, SIDE), device).unflatten(0, (count, 2))


def step_way(config: Config, learning: Learning, precision: Precision, count: int, device: torch.device) -> Way:
    """A step of networks that learn by ``config`` on ``count`` pairs, as training does it."""
    frames = moving_pairs(count, device)
    times = torch.arange(2, device=device).expand(count, -1).float()
    batch = {"frames": frames, "times": times, "identity": torch.arange(count, device=device)}
    accelerator = build_accelerator(replace(config.train_params, precision=precision), device.type == "cpu")
    for objective in learning.objectives:
        objective.module.to(accelerator.device)
    updates = [Updates(accelerator, o.module, o.optimizers, None) for o in learning.objectives]

    def step() -> float:
        keep_freed_memory()
        parts: list[Any] = [batch]
        for update in updates:
            losses, parts, _ = update.follow(parts)
        return float(sum(losses.values()))  # which waits for the device

    return step


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


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parts = {"step": step}
    parser.add_argument("part", choices=[*parts])
    add_timing(parser, 5)
    parser.add_argument("--pairs", type=number(int, 2, 1000), default=4, help="of a step (default: 4)")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()
    parts[args.part](timing_of(args), args.pairs, args.cpu)


if __name__ == "__main__":
    run_script(main)
