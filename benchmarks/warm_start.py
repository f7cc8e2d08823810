"""Warm start of config/sid-vox-256.yaml from FOMM-shaped weights: what is new, and one full-size training step.

    python -m benchmarks.warm_start [--checkpoint vox-cpk.pth.tar] [--batch_size 2] [--cpu]

Without a checkpoint FOMM's networks get random weights: names, shapes, time and memory are the same.  The perceptual
network is VGG-19 with random weights, which costs what ImageNet's do.
"""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path

import torch

from modules.arguments import Parser
from modules.config.files import load_config
from modules.config.sid import PerceptualParams
from modules.devices import best_device
from modules.errors import run_script
from modules.sid import objectives, weights
from modules.sid.model import SID
from modules.training.averages import Average
from modules.training.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="FOMM's checkpoint (default: random weights of its layout)")
    parser.add_argument("--batch_size", type=int, default=2, help="batch size of the training step")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU, even if there is one")
    args = parser.parse_args()
    device = best_device(args.cpu)
    config = load_config(ROOT / "config" / "sid-vox-256.yaml")
    train = replace(config.train_params, perceptual_network=PerceptualParams(weights="random"))
    config = replace(config, train_params=train)

    if args.checkpoint is not None:
        fomm = load_checkpoint(args.checkpoint)
    else:
        fomm = weights.state(SID(load_config(ROOT / "config" / "vox-256.yaml").model_params))
    learning = objectives.build(config)
    missing = objectives.LAYOUT.load(learning.model, fomm, args.checkpoint or "random FOMM weights")
    groups = sorted({".".join(name.split(".")[:2]) for name in missing})
    print(f"{len(missing)} names are new: {', '.join(groups)}")
    print(f"{sum(p.numel() for p in learning.model.parameters()) / 1e6:.1f} M parameters")

    (objective,) = learning.objectives
    objective.module.to(device)
    average = Average(learning.model, 0.999)
    frames = torch.rand(args.batch_size, config.dataset_params.frames_per_video, 3, 256, 256, device=device)
    batch = {
        "frames": frames,
        "times": torch.arange(frames.shape[1], device=device).expand(len(frames), -1).float(),
        "identity": torch.arange(len(frames), device=device),
    }
    for attempt in ("first", "second"):
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            terms, _ = objective.module(batch)
        torch.stack(list(terms.values())).sum().backward()
        for optimizer in objective.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        average.update(learning.model)
        if device.type == "cuda":
            torch.cuda.synchronize()
        print(f"{attempt} step, batch {args.batch_size}, bf16, {device.type}: {time.perf_counter() - start:.1f} s")
    if device.type == "cuda":
        print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    print(f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    run_script(main)
