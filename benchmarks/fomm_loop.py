"""The First Order Motion Model's way of working, with this project's networks: the yardstick of benchmarks.speed.

In float32, a frame at a time; the source is encoded anew for each of them; clips are read, and results kept, whole.
It is what the reference's demo.py, run.py and frames_dataset.py do (A. Siarohin et al., NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modules import media
from modules.config.sid import Config
from modules.geometry import RandomTransform
from modules.media.tensors import to_images, to_tensor
from modules.sid import losses, objectives
from modules.sid.model import SID


@torch.inference_mode()
def animate(model: SID, source: np.ndarray, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A source ``[H, W, 3]``, uint8, moved to the key points of each frame by a model without encoders."""
    device = next(model.parameters()).device
    image, clip = to_tensor([source], device), [to_tensor([frame]) for frame in frames]
    own = model.kp_detector(image)
    results = []
    for frame in clip:
        driven = model.kp_detector(frame.to(device))
        results.append(model.generator(image, own, driven).prediction.cpu())
    return to_images(torch.cat(results))


def training_pair(clip: str | Path, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Two frames of a video, ``[1, 3, H, W]`` each, as its data set takes them: all of it is decoded first."""
    frames = [frame.image for frame in media.read_video(clip)]
    first, second = sorted(generator.choice(len(frames), size=2))
    return to_tensor([frames[first]]), to_tensor([frames[second]])


def training_step(config: Config, frames: Tensor) -> Callable[[], float]:
    """A step on pairs of frames ``[B, 2, 3, H, W]``, as its train.py and GeneratorFullModel do it; returns the loss.

    Every picture goes through the detector alone, and Adam updates one tensor after the other.
    """
    learning, params = objectives.build(config), config.train_params
    step, model = learning.generator_step.to(frames.device, memory_format=torch.contiguous_format), learning.model
    weights, shape = params.loss_weights, params.transform_params
    rates = {model.generator: params.lr_generator, model.kp_detector: params.lr_kp_detector}
    adam = torch.optim.Adam
    optimizers = [adam(network.parameters(), rate, objectives.ADAM_BETAS) for network, rate in rates.items()]
    source, driving = frames.unbind(1)
    step.train()

    def run() -> float:
        own, driven = model.kp_detector(source), model.kp_detector(driving)
        fake, real = step.pyramid(model.generator(source, own, driven).prediction), step.pyramid(driving)
        terms = []
        for scale in params.scales:
            maps = zip(weights.perceptual, step.perceptual(fake[scale]), step.perceptual(real[scale]), strict=True)
            terms += [weight * (made - wanted.detach()).abs().mean() for weight, made, wanted in maps]
        transform = RandomTransform.draw(len(driving), driving, shape.sigma_affine, shape.sigma_tps, shape.points_tps)
        moved = model.kp_detector(transform.warp_image(driving))
        terms.append(weights.equivariance_value * losses.equivariance_value(driven, moved, transform))
        terms.append(weights.equivariance_jacobian * losses.equivariance_jacobian(driven, moved, transform))
        loss = torch.stack(terms).sum()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return float(loss.detach())

    return run
