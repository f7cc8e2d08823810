"""Seconds and memory of a step or a portrait at Stable Diffusion 1.5's size, with random weights.

Ratios are medians over rounds in which both kinds alternate, in one process.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import UNet2DConditionModel
from torch.utils.data import default_collate

from modules import media
from modules.config.mef import AdapterParams, BaseParams
from modules.mef.adapters import attach_new
from modules.mef.branch import new_branch
from modules.mef.conditions import Widths
from modules.mef.pipeline import DeepExprPipeline
from modules.training.averages import Average

from .sd15 import build, random_unet, write_data

WIDTHS = Widths(128, 80)


def alternate(first: Callable[[], None], second: Callable[[], None], rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, and the median of the rounds' ratios second / first; one round to warm up."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        marks = [time.process_time()]
        for work in (first, second):
            work()
            marks.append(time.process_time())
        times.append((marks[1] - marks[0], marks[2] - marks[1]))
    one, other = zip(*times[1:], strict=True)
    ratio = statistics.median(b / a for a, b in times[1:])
    return statistics.median(one), statistics.median(other), ratio


@torch.no_grad()
def adapters(rounds: int, side: int) -> None:
    unet = random_unet(torch.float32)
    with torch.device("meta"):
        plain = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    plain.load_state_dict(unet.state_dict(), assign=True)  # the same memory
    sizes = (AdapterParams(),) * 2
    both = attach_new(unet, WIDTHS, sizes, ["mid", "up"])
    branch = new_branch(SimpleNamespace(unet=plain, vae_scale_factor=8), WIDTHS, sizes, "plain")
    noisy, text = torch.randn(2, 4, side, side), torch.randn(2, 77, 768)  # both halves of guidance
    embeds = {"image_embeds": [torch.randn(2, 1, width) for width in WIDTHS]}

    def step(network: UNet2DConditionModel) -> None:
        network(noisy, 500, text, added_cond_kwargs=embeds)

    def step_with_branch() -> None:
        with branch.acting(plain):
            step(plain)

    for name, conditions, work in (("adapters", both, partial(step, unet)), ("branch", branch, step_with_branch)):
        one, other, ratio = alternate(partial(step, plain), work, rounds)
        count = sum(p.numel() for p in conditions.trainable()) / 1e6
        print(
            f"{name}: {count:.1f} M parameters to train; denoising step, {side} x {side} latents, fp32: "
            f"plain {one:.2f} s, with {name} {other:.2f} s, ratio {ratio:.3f}"
        )


def cache(rounds: int, batch: int, precision: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, max(2, batch))
        learning, dataset = build(folder, precision, batch, cached=True)
        step, (optimizer,) = learning.step, learning.objectives[0].optimizers.values()
        items = default_collate([dataset[0, i] for i in range(batch)])
        computed = {"mean", "deviation", "face", "text_states", "identity", "expression"}
        bare = {key: value for key, value in items.items() if key not in computed}

        works = [partial(train_step, step, optimizer, rows, precision) for rows in (items, bare)]
        cached, anew, ratio = alternate(*works, rounds)
    print(
        f"training step, batch {batch}, {precision}: cached {cached:.2f} s, encoding anew {anew:.2f} s, "
        f"ratio {ratio:.2f}"
    )


def train_step(step: torch.nn.Module, optimizer: torch.optim.Optimizer, rows: dict, precision: str) -> None:
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        terms, _ = step(rows)
    terms["diffusion"].backward()
    optimizer.step()


def memory(batch: int, precision: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, batch)
        learning, dataset = build(folder, precision, batch, cached=True)
        step, (optimizer,) = learning.step, learning.objectives[0].optimizers.values()
        items = default_collate([dataset[0, i] for i in range(batch)])
        before = peak()
        start = time.process_time()
        train_step(step, optimizer, items, precision)
        Average(learning.adapters, 0.9999).update(learning.adapters)
    seconds = time.process_time() - start
    print(f"training step, batch {batch}, {precision}: peak {peak():.2f} GiB ({before:.2f} before it), {seconds:.0f} s")


def portrait(rounds: int) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("portrait: needs a GPU")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, 2)
        stage, _ = build(folder, "bf16", 1, cached=False)
        faces = [media.read_image(folder / f"{i}.png") for i in range(2)]
    frozen = stage.step.frozen
    pipeline = DeepExprPipeline(frozen.base, stage.adapters, frozen.embedder, BaseParams(path="random"))
    pipeline.to("cuda", torch.bfloat16)
    pipeline.base.set_progress_bar_config(disable=True)
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        pipeline("a portrait of a woman", *faces, num_inference_steps=30, height=512, width=512)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    device, gigabytes = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated() / 2**30
    print(
        f"portrait, 512 x 512, 30 steps, bf16, guided, {device}: {statistics.median(seconds[1:]):.2f} s "
        f"(the first {seconds[0]:.1f} s), {gigabytes:.2f} GiB allocated at most"
    )


def peak() -> float:
    """The process's largest resident size so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
